// check.mjs FILE: the manifests (JSON, a list) by Kubernetes' validators; writes strict.mts beside itself, in which each is a
// literal of its own type, so that tsc finds every field that does not exist.  And the container file by a linter.
import { readFileSync, writeFileSync } from "node:fs";
import { validate } from "dockerfile-utils";

const [manifests, containerfile] = process.argv.slice(2);
const lines = [];
let failed = 0;
for (const [i, manifest] of JSON.parse(readFileSync(manifests, "utf8")).entries()) {
  const module = `kubernetes-models/${manifest.apiVersion}/${manifest.kind}`;
  const Model = (await import(module))[manifest.kind];
  try {
    new Model(manifest).validate();
  } catch (error) {
    console.error(`${manifest.kind} ${manifest.metadata.name}: ${error.message}`);
    failed++;
  }
  lines.push(`import type { I${manifest.kind} as T${i} } from "${module}";`,
    `export const m${i}: T${i} = ${JSON.stringify(manifest)};`);
}
writeFileSync("strict.mts", lines.join("\n"));
for (const { message, range } of validate(readFileSync(containerfile, "utf8"))) {
  console.error(`${containerfile}:${range.start.line + 1}: ${message}`);
  failed++;
}
process.exit(failed ? 1 : 0);
