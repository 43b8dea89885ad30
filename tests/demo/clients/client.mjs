// Asks the service with Node's own library. The credential is a parameter of the query.
import https from "node:https";

const url = new URL(process.argv[2]);
url.searchParams.set("key", process.env.DEMO_TOKEN);
https.get(url, (answer) => {
  answer.setEncoding("utf8");
  answer.on("data", (text) => process.stdout.write(text));
  answer.on("end", () => console.log(`\n${answer.statusCode}`));
});
