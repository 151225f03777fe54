//! JSON Schema (2020-12), compiled once: of a backend's config, of a run's structured answer, of a question's form.
//!
//! No remote references: nothing is ever fetched. A schema is read as 2020-12, also where its `$schema` names an older draft.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use super::stdio::one_line;
use crate::fault::{Fault, code};

/// How long a pattern of a schema may look for a match.
const BACKTRACKS: usize = 100_000;
/// The longest explanation in a message.
const WHY_CHARS: usize = 500;
/// How many mistakes one message names.
const MISTAKES: usize = 3;

/// A schema that values can be checked against.
#[derive(Debug, Clone)]
pub struct Schema(Validator);

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// Each place and what is wrong there, e.g. ``at `/args/1`: 3 is not of type "string"``.
    pub wrong: String,
    /// The place of the first rule in the schema that is broken, e.g. `/properties/args/items/type`.
    pub rule: String,
}

impl Schema {
    /// Compiles a schema; the error says what is wrong with it, and where.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        if !schema.is_object() {
            return Err("a schema is a JSON object".into());
        }
        let at = |place: String| if place.is_empty() { "at its root".to_owned() } else { format!("at `{place}`") };
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS))
            .build(schema)
            .map(Self)
            .map_err(|error| one_line(&format!("{error} ({})", at(error.instance_path().to_string())), WHY_CHARS))
    }

    /// Checks a value: at most three of its mistakes. `root` is what the whole of it is called.
    pub fn check(&self, root: &str, value: &Value) -> Result<(), Mistakes> {
        self.check_hiding(root, value, &|_| false)
    }

    /// The same; of what lies at a pointer that `hides`, the place is told and not the value.
    fn check_hiding(&self, root: &str, value: &Value, hides: &dyn Fn(&str) -> bool) -> Result<(), Mistakes> {
        let mut wrong = Vec::new();
        let mut rule = None;
        for error in self.0.iter_errors(value).take(MISTAKES) {
            let place = match error.instance_path().as_str() {
                "" => root.to_owned(),
                pointer => format!("{root} at `{}`", one_line(pointer, WHY_CHARS)),
            };
            let hidden = hides(error.instance_path().as_str());
            let why = if hidden { error.masked_with("what the configuration sets").to_string() } else { error.to_string() };
            wrong.push(format!("{place}: {}", one_line(&why, WHY_CHARS)));
            rule.get_or_insert_with(|| one_line(&error.schema_path().to_string(), WHY_CHARS));
        }
        match rule {
            None => Ok(()),
            Some(rule) => Err(Mistakes { wrong: wrong.join("; "), rule }),
        }
    }
}

/// Checks a config: the message names each place and what is wrong there, the hint the place in the schema. Values of keys that the
/// run did not choose are the operator's, and are not shown.
pub(super) fn check(backend: &str, schema: &Schema, config: &Value, chosen: Option<&Map<String, Value>>) -> Result<(), Fault> {
    let operators = |pointer: &str| {
        let key = pointer.split('/').nth(1).unwrap_or_default().replace("~1", "/").replace("~0", "~");
        !chosen.is_some_and(|chosen| chosen.contains_key(&key))
    };
    schema.check_hiding("config", config, &operators).map_err(|mistakes| {
        Fault::new(code::INVALID_CONFIG, format!("backend `{backend}` does not take this {}", mistakes.wrong))
            .hint(format!("the rule is `{}` in the backend's config_schema, which list_backends shows", mistakes.rule))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(schema: &Value) -> Result<Schema, String> {
        Schema::compile(schema)
    }

    #[test]
    fn the_place_and_the_rule_are_named() {
        let schema =
            compile(&json!({ "type": "object", "properties": { "args": { "type": "array", "items": { "type": "string" } } }, "additionalProperties": false }))
                .unwrap();
        let check = |config: Value| {
            let chosen = config.as_object().cloned();
            check("exec", &schema, &config, chosen.as_ref())
        };
        check(json!({ "args": ["a"] })).unwrap();
        let fault = check(json!({ "args": ["a", 3] })).unwrap_err();
        assert_eq!(fault.code, code::INVALID_CONFIG);
        assert!(fault.message.contains("`exec`") && fault.message.contains("`/args/1`"), "{}", fault.message);
        assert!(fault.hint.unwrap().contains("/properties/args/items/type"));
        let fault = check(json!({ "prgram": 1 })).unwrap_err();
        assert!(fault.message.contains("prgram"), "{}", fault.message);
    }

    #[test]
    fn what_the_operator_set_is_not_shown() {
        let schema = compile(&json!({ "properties": { "servers": { "additionalProperties": { "type": "string" } } } })).unwrap();
        let config = json!({ "servers": { "one": { "token": "hunter2" } } });
        let fault = check("x", &schema, &config, None).unwrap_err();
        assert!(fault.message.contains("`/servers/one`") && !fault.message.contains("hunter2"), "{}", fault.message);
        let chosen = config.as_object().cloned();
        assert!(check("x", &schema, &config, chosen.as_ref()).unwrap_err().message.contains("hunter2"), "one's own value is");
    }

    #[test]
    fn a_wrong_schema_and_a_remote_one_are_refused() {
        let why = compile(&json!({ "properties": { "a": { "type": "objekt" } } })).unwrap_err();
        assert!(why.contains("objekt") && why.contains("`/properties/a/type`"), "{why}");
        assert!(compile(&json!(true)).is_err());
        assert!(compile(&json!({ "$ref": "https://example.org/schema.json" })).is_err());
        assert!(compile(&json!({ "$ref": "file:///etc/passwd" })).is_err());
    }

    #[test]
    fn a_schema_is_read_as_2020_12() {
        for named in [
            json!({}),
            json!({ "$schema": "https://json-schema.org/draft/2020-12/schema" }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#" }),
        ] {
            let mut schema = json!({ "type": "array", "prefixItems": [{ "type": "string" }], "items": false, "$defs": { "x": {} } });
            schema.as_object_mut().unwrap().extend(named.as_object().unwrap().clone());
            let schema = compile(&schema).unwrap();
            assert!(schema.check("it", &json!(["a"])).is_ok());
            assert!(schema.check("it", &json!([1])).unwrap_err().rule.contains("prefixItems"));
            assert!(schema.check("it", &json!(["a", "b"])).is_err());
        }
    }
}
