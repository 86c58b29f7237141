// Write the part of GitHub's description that is about repositories' webhooks: node cut.mjs FILE
import { readFileSync, writeFileSync } from "node:fs";

const file = new URL("node_modules/@octokit/openapi/generated/api.github.com.deref.json", import.meta.url);
const { paths } = JSON.parse(readFileSync(file, "utf8"));
const ours = Object.entries(paths).filter(([path]) => path.startsWith("/repos/{owner}/{repo}/hooks"));
writeFileSync(process.argv[2], JSON.stringify(Object.fromEntries(ours)));
