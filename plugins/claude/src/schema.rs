//! The schema of a structured answer, as `claude --json-schema` takes it.
//!
//! The program knows draft-07, refuses to start where it meets a keyword that it does not know, and takes an object alone.
//! So keywords of other drafts are left out here (what they would check, the host checks: it judges the answer by the whole
//! schema), and a schema of anything but an object is put into one.

use falconer_backend::Failure;
use serde_json::{Map, Value, json};

/// Linux takes no single argument of 128 KiB or more (`MAX_ARG_STRLEN`); a little is for the flag.
const MAX_SCHEMA: usize = (128 << 10) - 64;
/// The field in which an answer is that is no object.
const WRAPPED: &str = "value";
/// Keywords with plain values.
const PLAIN: [&str; 30] = [
    "$id",
    "$comment",
    "$ref",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "type",
    "enum",
    "const",
    "format",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "required",
    "contentEncoding",
    "contentMediaType",
];
/// Keywords with a schema.
const SCHEMA: [&str; 4] = ["additionalProperties", "propertyNames", "not", "contains"];
/// Keywords with a list of schemas.
const LIST: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords with a table of schemas.
const TABLE: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// A schema that is handed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// For `--json-schema`.
    pub text: String,
    /// The answer is a field of what comes back.
    wrapped: bool,
}

impl Schema {
    /// From what the job says.
    ///
    /// # Errors
    /// `invalid_argument`: too large for an argument, or no schema at all.
    pub fn of(text: &str) -> Result<Self, Failure> {
        let whole: Value = serde_json::from_str(text)
            .map_err(|error| Failure::new("invalid_argument", format!("the output_schema is no JSON: {error}")))?;
        let lowered = lower(&whole);
        let wrapped = lowered.get("type").and_then(Value::as_str) != Some("object");
        let text = if wrapped { wrap(lowered) } else { lowered }.to_string();
        if text.len() > MAX_SCHEMA {
            let message = format!("the output_schema takes {} bytes; claude can be given {MAX_SCHEMA}", text.len());
            return Err(Failure::new("invalid_argument", message).with_hint("shorten its descriptions, or put repeated parts into $defs"));
        }
        Ok(Self { text, wrapped })
    }

    /// The answer, out of what came back.
    pub fn unwrap(&self, value: Value) -> Value {
        match value {
            Value::Object(mut fields) if self.wrapped => fields.remove(WRAPPED).unwrap_or(Value::Object(fields)),
            other => other,
        }
    }
}

/// An object with the answer as its one field. Definitions stay at the root, where references look for them.
fn wrap(mut schema: Value) -> Value {
    let mut outer = json!({ "type": "object", "required": [WRAPPED], "additionalProperties": false });
    for name in ["$defs", "definitions"] {
        if let Some(definitions) = schema.as_object_mut().and_then(|fields| fields.remove(name)) {
            outer[name] = definitions;
        }
    }
    outer["properties"] = json!({ WRAPPED: schema });
    outer
}

/// A schema with the keywords that the program knows.
fn lower(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (name, value) in fields {
        let name = name.as_str();
        if PLAIN.contains(&name) {
            out.insert(name.to_owned(), value.clone());
        } else if SCHEMA.contains(&name) {
            out.insert(name.to_owned(), lower(value));
        } else if LIST.contains(&name) || name == "items" {
            let lowered = match value {
                Value::Array(all) => Value::Array(all.iter().map(lower).collect()),
                one => lower(one),
            };
            out.insert(name.to_owned(), lowered);
        } else if TABLE.contains(&name)
            && let Value::Object(table) = value
        {
            out.insert(name.to_owned(), table.iter().map(|(key, one)| (key.clone(), lower(one))).collect::<Map<_, _>>().into());
        }
    }
    // Without it, `items` would speak of the first items too.
    if fields.contains_key("prefixItems") {
        out.remove("items");
    }
    // Each is refused without the other.
    if let Some(condition) = fields.get("if") {
        let branches: Vec<_> = ["then", "else"].into_iter().filter_map(|name| Some((name, fields.get(name)?))).collect();
        if !branches.is_empty() {
            out.insert("if".to_owned(), lower(condition));
            out.extend(branches.into_iter().map(|(name, branch)| (name.to_owned(), lower(branch))));
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: &Value) -> Value {
        serde_json::from_str(&Schema::of(&schema.to_string()).unwrap().text).unwrap()
    }

    #[test]
    fn an_object_keeps_what_the_program_knows() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "x-note": 1, "unevaluatedProperties": false,
            "properties": {
                "unevaluatedProperties": { "type": "string", "$anchor": "a" },
                "t": { "type": "array", "prefixItems": [{ "type": "integer" }], "items": false },
                "l": { "type": "array", "items": { "$ref": "#/$defs/N" } },
            },
            "required": ["l"], "$defs": { "N": { "type": "integer", "minimum": 1 } },
            "if": { "required": ["t"] }, "then": { "required": ["l"] }, "allOf": [{ "then": {} }],
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "unevaluatedProperties": { "type": "string" },
                "t": { "type": "array" },
                "l": { "type": "array", "items": { "$ref": "#/$defs/N" } },
            },
            "required": ["l"], "$defs": { "N": { "type": "integer", "minimum": 1 } },
            "if": { "required": ["t"] }, "then": { "required": ["l"] }, "allOf": [{}],
        });
        assert_eq!(of(&schema), expected);
    }

    #[test]
    fn what_is_no_object_is_put_into_one() {
        let schema = json!({ "type": "array", "items": { "$ref": "#/$defs/N" }, "$defs": { "N": { "type": "integer" } } });
        let expected = json!({
            "type": "object", "required": ["value"], "additionalProperties": false, "$defs": { "N": { "type": "integer" } },
            "properties": { "value": { "type": "array", "items": { "$ref": "#/$defs/N" } } },
        });
        assert_eq!(of(&schema), expected);
        let wrapped = Schema::of(&schema.to_string()).unwrap();
        assert_eq!(wrapped.unwrap(json!({ "value": [1] })), json!([1]));
        assert_eq!(wrapped.unwrap(json!("odd")), json!("odd"));
        assert_eq!(Schema::of(r#"{"type":"object"}"#).unwrap().unwrap(json!({ "value": [1] })), json!({ "value": [1] }));
    }

    #[test]
    fn one_that_fits_no_argument_is_refused() {
        let large = json!({ "type": "object", "description": "x".repeat(140_000) });
        let failure = Schema::of(&large.to_string()).unwrap_err();
        assert_eq!(failure.code, "invalid_argument");
        assert!(failure.message.contains("131008"), "{}", failure.message);
    }
}
