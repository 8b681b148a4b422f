// The official server with the handlers of ../server/main.go. It prints the address it serves on, and ends when its
// standard input does. With the arguments redis or postgres and a URL it is a node of a cluster.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const options = { maxHttpBufferSize: 2_000_000 };
const [bus, url] = process.argv.slice(2);
// What a server alone does not need it does not load: it would be memory that clients find to use again.
if (bus === "redis") {
  const [{ createAdapter }, { createClient }] = await Promise.all([import("@socket.io/redis-adapter"), import("redis")]);
  const publisher = createClient({ url });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  options.adapter = createAdapter(publisher, subscriber);
} else if (bus === "postgres") {
  const [{ createAdapter }, { default: pg }] = await Promise.all([import("@socket.io/postgres-adapter"), import("pg")]);
  options.adapter = createAdapter(new pg.Pool({ connectionString: url }));
}
const io = new Server(http, options);

io.on("connection", (socket) => {
  socket.on("echo", (value, ack) => ack(value));
  socket.on("binary", (value, ack) => ack(value));
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("broadcast", (room, value) => {
    io.to(room).emit("message", value);
  });
});

http.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${http.address().port}`));
process.stdin.resume().on("end", () => process.exit());
