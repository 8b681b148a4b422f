// usage: node forwarding.cjs URL
//
// Stock clients talk through a balancer that knows no sessions, over long-polling, through an upgrade, and over WebSocket
// alone. None of them may lose its connection. They say when they are done, and leave when standard input ends.
const { io } = require("socket.io-client");

const ROUNDS = 20;
const url = process.argv[2];

const fail = (text) => {
	console.error(text);
	process.exit(1);
};

const connect = (name, options) =>
	new Promise((resolve) => {
		const socket = io(url, { forceNew: true, reconnection: false, ...options });
		socket.on("connect_error", (err) => fail(`${name}: ${err.message} ${err.context?.responseText ?? ""}`));
		socket.on("disconnect", (reason) => reason !== "io client disconnect" && fail(`${name}: ${reason}`));
		socket.on("connect", () => resolve(socket));
	});

const upgraded = (socket) =>
	new Promise((resolve) => {
		const { engine } = socket.io;
		if (engine.transport.name === "websocket") return resolve();
		engine.once("upgrade", resolve);
	});

const main = async () => {
	const clients = [];
	for (let i = 0; i < 3; i++) {
		clients.push(
			await connect("polling", { transports: ["polling"] }),
			await connect("upgrade", { transports: ["polling", "websocket"] }),
			await connect("websocket", { transports: ["websocket"] }),
		);
	}
	const received = clients.map((socket) => {
		const got = [];
		socket.on("text", (text) => got.push(text));
		socket.on("bytes", (bytes) => got.push(Buffer.from(bytes).toString()));
		return got;
	});
	for (const socket of clients) {
		const { ok } = await socket.timeout(10000).emitWithAck("join", "room");
		if (!ok) fail("join was refused");
	}
	for (let i = 0; i < ROUNDS; i++) {
		// All at once: an upgrade meets what is on its way.
		await Promise.all(
			clients.map(async (socket, j) => {
				const text = `${j}-${i}`;
				const data = i % 2 ? ["bytes", Buffer.from(text)] : ["text", text];
				const { ok, error } = await socket.timeout(10000).emitWithAck("publish", "room", ...data);
				if (!ok) fail(`publish: ${error}`);
			}),
		);
	}
	await Promise.all(clients.filter((_, i) => i % 3 === 1).map(upgraded));
	const want = ROUNDS * (clients.length - 1);
	for (const deadline = Date.now() + 10000; received.some((got) => got.length < want); ) {
		if (Date.now() > deadline) fail(`received ${received.map((got) => got.length)}, want ${want} each`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
	for (const [i, got] of received.entries()) {
		if (new Set(got).size !== want || got.length !== want) fail(`client ${i} got ${got.length}, ${new Set(got).size} of them different`);
		for (let j = 0; j < clients.length; j++) {
			// What one sends arrives in its order.
			const rounds = got.filter((text) => text.startsWith(`${j}-`)).map((text) => +text.slice(2));
			if (rounds.some((round, k) => k > 0 && round < rounds[k - 1])) fail(`client ${i} got ${rounds} of ${j}`);
		}
	}
	console.log("done");
	await new Promise((resolve) => process.stdin.on("end", resolve).resume());
	for (const socket of clients) socket.disconnect();
};

main().catch((err) => fail(err.stack));
