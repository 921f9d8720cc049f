// Mattermost's own client for JavaScript, as an app uses it: logs in, listens, posts, and reads its post over the WebSocket and from the
// API. Whom it trusts is Node's to know (NODE_EXTRA_CA_CERTS); nothing here switches a check off.
//
//   node talk.cjs URL TEAM CHANNEL ACCOUNT_FILE
//
// ACCOUNT_FILE holds two lines, name and password. The last line that it prints is JSON: what it was told.
"use strict";

const { readFileSync } = require("node:fs");
const { Client4, WebSocketClient } = require("@mattermost/client");
const WebSocket = require("ws");

const PATIENCE_MS = 30_000;

// What the client takes from a browser. Node 22 has a WebSocket of its own, Debian's 20 has none.
globalThis.window = new EventTarget();
globalThis.WebSocket = WebSocket;

const [url, team, channel, file] = process.argv.slice(2);
const [name, password] = readFileSync(file, "utf8").split("\n");

async function main() {
    const client = new Client4();
    client.setUrl(url);
    const me = await client.login(name, password);
    const { id: team_id } = await client.getTeamByName(team);
    const { id: channel_id } = await client.getChannelByName(team_id, channel);

    const socket = new WebSocketClient();
    const message = `from the official client, ${process.pid}`;
    let hello;
    const read = new Promise((resolve, reject) => {
        socket.addErrorListener((event) => reject(new Error(`WebSocket: ${event.message}`)));
        socket.addMessageListener(async (event) => {
            if (event.event === "hello") {
                hello = event.data;
                await client.createPost({ channel_id, message }).catch(reject);
            } else if (event.event === "posted" && JSON.parse(event.data.post).message === message) {
                resolve({ post: JSON.parse(event.data.post), data: event.data });
            }
        });
    });
    socket.initialize(client.getWebSocketUrl(), client.getToken());
    const { post, data } = await read;
    const { posts } = await client.getPosts(channel_id);
    socket.close();
    const after = await client.logout().then(() => client.getMe()).then(() => "still signed in", (error) => error.status_code);
    console.log(
        JSON.stringify({
            user: me.username,
            server: hello.server_version,
            sender: data.sender_name,
            channel: data.channel_name,
            own: post.user_id === me.id,
            kept: posts[post.id]?.message === message,
            after,
        }),
    );
}

setTimeout(() => {
    console.error(`not within ${PATIENCE_MS} ms`);
    process.exit(1);
}, PATIENCE_MS).unref();

main().then(
    () => process.exit(0),
    (error) => {
        console.error(error, error.cause ?? "");
        process.exit(1);
    },
);
