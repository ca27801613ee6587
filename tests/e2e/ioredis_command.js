// This follows a snippet that makes `client`.
const errors = [];
client.on("error", (error) => errors.push(error.message || error.code));
const waiting = setTimeout(() => {
  console.log(`still waits, error event: ${errors[0]}`);
  process.exit();
}, Number(process.env.PATIENCE_SECONDS) * 1000);
try {
  console.log((await client.set("written by", "ioredis")) === "OK" ? "written" : "not written");
} catch (error) {
  console.log(`${error.name}: ${error.message}`);
}
clearTimeout(waiting);
client.disconnect();
