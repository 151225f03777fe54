//! A backend's JSON Schema (2020-12), compiled once. No remote references: nothing is ever fetched.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::stdio::one_line;
use crate::fault::{Fault, code};

/// How long a pattern of a schema may look for a match.
const BACKTRACKS: usize = 100_000;
/// The longest explanation in a message.
const WHY_CHARS: usize = 500;
/// How many mistakes one message names.
const MISTAKES: usize = 3;

/// Compiles a schema; the error says what is wrong with it.
pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    if !schema.is_object() {
        return Err("a schema is a JSON object".into());
    }
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS))
        .build(schema)
        .map_err(|error| one_line(&format!("{error} (at `{}`)", error.instance_path()), WHY_CHARS))
}

/// Checks a config: the message names each place and what is wrong there, the hint the place in the schema.
pub(super) fn check(backend: &str, validator: &Validator, config: &Value) -> Result<(), Fault> {
    let mut wrong = Vec::new();
    let mut rule = None;
    for error in validator.iter_errors(config).take(MISTAKES) {
        let place = match error.instance_path().as_str() {
            "" => "config".to_owned(),
            pointer => format!("config at `{}`", one_line(pointer, WHY_CHARS)),
        };
        wrong.push(format!("{place}: {}", one_line(&error.to_string(), WHY_CHARS)));
        rule.get_or_insert_with(|| error.schema_path().to_string());
    }
    let Some(rule) = rule else { return Ok(()) };
    Err(Fault::new(code::INVALID_CONFIG, format!("backend `{backend}` does not take this {}", wrong.join("; ")))
        .hint(format!("the rule is `{rule}` in the backend's config_schema, which list_backends shows")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_place_and_the_rule_are_named() {
        let validator =
            compile(&json!({ "type": "object", "properties": { "args": { "type": "array", "items": { "type": "string" } } }, "additionalProperties": false }))
                .unwrap();
        check("exec", &validator, &json!({ "args": ["a"] })).unwrap();
        let fault = check("exec", &validator, &json!({ "args": ["a", 3] })).unwrap_err();
        assert_eq!(fault.code, code::INVALID_CONFIG);
        assert!(fault.message.contains("`exec`") && fault.message.contains("`/args/1`"), "{}", fault.message);
        assert!(fault.hint.unwrap().contains("/properties/args/items/type"));
        let fault = check("exec", &validator, &json!({ "prgram": 1 })).unwrap_err();
        assert!(fault.message.contains("prgram"), "{}", fault.message);
    }

    #[test]
    fn a_wrong_schema_and_a_remote_one_are_refused() {
        assert!(compile(&json!({ "type": "objekt" })).unwrap_err().contains("objekt"));
        assert!(compile(&json!(true)).is_err());
        assert!(compile(&json!({ "$ref": "https://example.org/schema.json" })).is_err());
        assert!(compile(&json!({ "$ref": "file:///etc/passwd" })).is_err());
    }
}
