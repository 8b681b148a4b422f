// The official server with the handlers of ../server/main.go. It prints the address it serves on, and ends when its
// standard input does.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { maxHttpBufferSize: 2_000_000 });

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
