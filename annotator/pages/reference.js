// Shows openapi.json as a page. Everything from the document enters as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const code = (text) => element("code", { textContent: text });
const block = (value) =>
  element("pre", { tabIndex: 0 }, code(JSON.stringify(value, null, 2)));

function resolve(document_, schema) {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.slice(2).split("/").reduce((part, key) => part[key], document_);
}

function typeName(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeName(schema.items || {})}`;
  return schema.type || "any value";
}

function table(headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col", textContent: text })));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function fields(schema) {
  const required = new Set(schema.required || []);
  return table(
    ["field", "type", "meaning"],
    Object.entries(schema.properties || {}).map(([name, field]) => [
      code(name),
      typeName(field) + (required.has(name) ? "" : ", optional"),
      field.description || "",
    ]),
  );
}

function message(document_, title, schema) {
  const found = resolve(document_, schema);
  const example = (found.examples || [])[0];
  const parts = [element("h3", { textContent: schema.$ref ? `${title}: ${typeName(schema)}` : title })];
  if (found.description) parts.push(element("p", { textContent: found.description }));
  if (found.properties) parts.push(fields(found));
  if (example !== undefined) parts.push(block(example));
  return parts;
}

function jsonSchema(part) {
  return part && part.content && part.content["application/json"] && part.content["application/json"].schema;
}

function parameters(operation) {
  if (!operation.parameters) return [];
  const rows = operation.parameters.map((item) => [
    code(item.name),
    `${item.in}${item.required ? "" : ", optional"}`,
    item.description || item.schema.description || (item.schema.pattern ? `must match ${item.schema.pattern}` : ""),
  ]);
  return [element("h3", { textContent: "Parameters" }), table(["name", "in", "meaning"], rows)];
}

function answers(document_, operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) => [
    code(status),
    jsonSchema(answer) ? typeName(jsonSchema(answer)) : Object.keys(answer.content || {}).join(", ") || "nothing",
    answer.description || "",
  ]);
  const parts = [element("h3", { textContent: "Answers" }), table(["status", "body", "meaning"], rows)];
  const success = Object.entries(operation.responses).find(([status]) => status.startsWith("2"));
  const schema = success && jsonSchema(success[1]);
  return schema ? [...parts, ...message(document_, "Success", schema)] : parts;
}

function operationPart(document_, path, method, operation) {
  const summary = element(
    "summary",
    {},
    element("span", { className: "method", textContent: method.toUpperCase() }),
    element("span", { className: "path", textContent: path }),
    element("span", { className: "gist", textContent: operation.summary || "" }),
  );
  const content = element("div", {}, element("p", { textContent: operation.description || "" }), ...parameters(operation));
  const body = jsonSchema(operation.requestBody);
  if (body) content.append(...message(document_, "Body", body));
  content.append(...answers(document_, operation));
  return element("details", { className: "operation" }, summary, content);
}

function groups(document_) {
  const found = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const name = (operation.tags || ["other"])[0];
      if (!found.has(name)) found.set(name, []);
      found.get(name).push(operationPart(document_, path, method, operation));
    }
  }
  return found;
}

async function main() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
  const document_ = await response.json();
  byId("title").textContent = `${document_.info.title} ${document_.info.version}`;
  byId("about").textContent = document_.info.description || "";
  for (const [name, operations] of groups(document_)) {
    byId("operations").append(element("h2", { textContent: name }), ...operations);
  }
  byId("operations").append(
    element("h2", { textContent: "errors" }),
    ...message(document_, "Every error", { $ref: "#/components/schemas/Problem" }),
  );
  byId("state").remove();
}

main().catch((error) => {
  byId("state").textContent = `The API's description cannot be shown: ${error.message}`;
});
