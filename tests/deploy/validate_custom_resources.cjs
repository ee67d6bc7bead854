// Reads Kubernetes objects as JSON lines; prints what is wrong with those that operators define.
const MODULES = {
  "external-secrets.io": "@kubernetes-models/external-secrets",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "postgresql.cnpg.io": "@kubernetes-models/cloudnative-pg",
};
const folder = require("node:path").join(__dirname, "node_modules");
const capitalized = (text) => text.replace(/(^|[.-])(\w)/g, (_, before, letter) => letter.toUpperCase());

for (const line of require("node:fs").readFileSync(0, "utf8").trim().split("\n")) {
  const object = JSON.parse(line);
  const [group, version] = object.apiVersion.split("/");
  const name = capitalized(group) + capitalized(version) + object.kind;
  const { validate } = require(`${folder}/${MODULES[group]}/_schemas/${name}.js`);
  if (!validate(object)) console.log(object.kind, JSON.stringify(validate.errors));
}
