//! Directories in a config: strings that the schema marks with `"format": "falconer-directory"`.
//!
//! They are found by walking schema and value together, through everything of 2020-12 that applies a schema in place or to a part
//! of the value. What is found is judged elsewhere. A schema that leads nowhere (a reference to itself) ends in a fault, not in a loop.

use regex::Regex;
use serde_json::{Map, Value};

use super::stdio::one_line;
use crate::fault::{Fault, code};

/// The mark.
const FORMAT: &str = "falconer-directory";
/// Where the schemas of JSON Schema itself are.
const META: &str = "https://json-schema.org/";
/// Schemas that are applied to one config, in all.
const STEPS: u32 = 100_000;
/// Schemas within schemas.
const DEPTH: u32 = 256;

/// Puts what `judge` makes of it in the place of each marked string of `config`. `judge` gets its JSON pointer and the string.
pub(super) fn replace(schema: &Value, config: &mut Value, judge: &mut dyn FnMut(&str, &str) -> Result<String, Fault>) -> Result<(), Fault> {
    if !schema.to_string().contains(FORMAT) {
        return Ok(());
    }
    Walk { root: schema, judge, steps: STEPS }.apply(schema, config, &mut String::new(), 0)
}

struct Walk<'a> {
    root: &'a Value,
    judge: &'a mut dyn FnMut(&str, &str) -> Result<String, Fault>,
    steps: u32,
}

impl Walk<'_> {
    fn apply(&mut self, schema: &Value, value: &mut Value, pointer: &mut String, depth: u32) -> Result<(), Fault> {
        let Some(schema) = schema.as_object() else { return Ok(()) };
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 || depth > DEPTH {
            let message = "the backend's config_schema refers to itself too often for its directories to be found";
            return Err(Fault::new(code::CONTRACT_VIOLATION, message));
        }
        if schema.get("format").and_then(Value::as_str) == Some(FORMAT)
            && let Value::String(text) = value
        {
            *text = (self.judge)(pointer, text)?;
        }
        self.in_place(schema, value, pointer, depth)?;
        match value {
            Value::Object(map) => self.members(schema, map, pointer, depth),
            Value::Array(items) => {
                let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(part) = first.get(index).or_else(|| schema.get("items")).or_else(|| schema.get("unevaluatedItems")) {
                        self.part(part, item, pointer, &index.to_string(), depth)?;
                    }
                    if let Some(part) = schema.get("contains") {
                        self.part(part, item, pointer, &index.to_string(), depth)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Schemas that apply to the same value.
    fn in_place(&mut self, schema: &Map<String, Value>, value: &mut Value, pointer: &mut String, depth: u32) -> Result<(), Fault> {
        for key in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
                self.apply(part, value, pointer, depth + 1)?;
            }
        }
        for part in ["if", "then", "else"].into_iter().filter_map(|key| schema.get(key)) {
            self.apply(part, value, pointer, depth + 1)?;
        }
        for part in schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(Map::values) {
            self.apply(part, value, pointer, depth + 1)?;
        }
        for key in ["$ref", "$dynamicRef"] {
            let Some(name) = schema.get(key).and_then(Value::as_str) else { continue };
            // The schemas of JSON Schema itself mark nothing.
            if name.starts_with(META) {
                continue;
            }
            // What it means may be marked: not to find it is no reason to let a directory through.
            let part = named(self.root, name).ok_or_else(|| {
                let name = one_line(name, 128);
                Fault::new(code::CONTRACT_VIOLATION, format!("the backend's config_schema has a `{key}` to `{name}`, which leads nowhere"))
                    .hint("within a schema that marks directories, refer by `#`, a JSON pointer or an anchor of the same document")
            })?;
            self.apply(part, value, pointer, depth + 1)?;
        }
        Ok(())
    }

    fn members(
        &mut self,
        schema: &Map<String, Value>,
        map: &mut Map<String, Value>,
        pointer: &mut String,
        depth: u32,
    ) -> Result<(), Fault> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns: Vec<(Option<Regex>, &Value)> = schema
            .get("patternProperties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(pattern, part)| (Regex::new(pattern).ok(), part))
            .collect();
        for (name, member) in map {
            let named = properties.and_then(|properties| properties.get(name));
            // A pattern that only another dialect knows counts as one that fits: what it marks is judged.
            let fitting = patterns.iter().filter(|(pattern, _)| pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)));
            let own: Vec<&Value> = named.into_iter().chain(fitting.map(|(_, part)| *part)).collect();
            for part in &own {
                self.part(part, member, pointer, name, depth)?;
            }
            for part in
                ["additionalProperties", "unevaluatedProperties"].into_iter().filter(|_| own.is_empty()).filter_map(|key| schema.get(key))
            {
                self.part(part, member, pointer, name, depth)?;
            }
        }
        Ok(())
    }

    fn part(&mut self, schema: &Value, value: &mut Value, pointer: &mut String, name: &str, depth: u32) -> Result<(), Fault> {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&one_line(&name.replace('~', "~0").replace('/', "~1"), 128));
        let applied = self.apply(schema, value, pointer, depth + 1);
        pointer.truncate(length);
        applied
    }
}

/// The schema that a reference within the same document means: `#`, a pointer, or an anchor.
fn named<'a>(root: &'a Value, name: &str) -> Option<&'a Value> {
    let fragment = name.strip_prefix('#')?;
    if fragment.is_empty() || fragment.starts_with('/') {
        return root.pointer(fragment);
    }
    anchored(root, fragment)
}

fn anchored<'a>(schema: &'a Value, anchor: &str) -> Option<&'a Value> {
    match schema {
        Value::Object(map) if ["$anchor", "$dynamicAnchor"].iter().any(|key| map.get(*key).is_some_and(|name| name == anchor)) => {
            Some(schema)
        }
        Value::Object(map) => map.values().find_map(|part| anchored(part, anchor)),
        Value::Array(items) => items.iter().find_map(|part| anchored(part, anchor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replaced(schema: &Value, mut config: Value) -> Result<(Value, Vec<String>), Fault> {
        let mut seen = Vec::new();
        replace(schema, &mut config, &mut |pointer, text| {
            seen.push(format!("{pointer}={text}"));
            Ok(format!("/real{text}"))
        })?;
        Ok((config, seen))
    }

    #[test]
    fn marked_strings_are_found_wherever_they_are() {
        let dir = json!({ "type": "string", "format": FORMAT });
        let schema = json!({
            "properties": {
                "one": dir, "many": { "type": "array", "items": { "$ref": "#/$defs/dir" } },
                "either": { "anyOf": [{ "type": "boolean" }, { "$ref": "#here" }] },
                "named": { "additionalProperties": { "properties": { "a/b": dir } } },
                "plain": { "type": "string" },
            },
            "patternProperties": { "^x-": dir },
            "$defs": { "dir": dir, "other": { "$anchor": "here", "format": FORMAT } },
        });
        let config =
            json!({ "one": "/1", "many": ["/2", "/3"], "either": "/4", "named": { "n": { "a/b": "/5" } }, "plain": "/6", "x-y": "/7" });
        let (config, seen) = replaced(&schema, config).unwrap();
        assert_eq!(seen, ["/one=/1", "/many/0=/2", "/many/1=/3", "/either=/4", "/named/n/a~1b=/5", "/x-y=/7"]);
        assert_eq!(config["many"], json!(["/real/2", "/real/3"]));
        assert_eq!((&config["plain"], &config["named"]["n"]["a/b"]), (&json!("/6"), &json!("/real/5")));
        let (same, seen) = replaced(&schema, json!({ "either": true })).unwrap();
        assert_eq!((same, seen.len()), (json!({ "either": true }), 0));
    }

    #[test]
    fn nothing_that_is_marked_goes_unjudged() {
        let dir = json!({ "format": FORMAT });
        let schema = json!({
            "properties": {
                "rest": { "prefixItems": [{ "type": "string" }], "unevaluatedItems": dir },
                "coded": { "$ref": "#/$defs/a%20dir" },
                "by-id": { "$ref": "other" },
                "meta": { "$ref": "https://json-schema.org/draft/2020-12/schema" },
            },
            "$defs": { "a dir": dir, "other": { "$id": "other", "format": FORMAT } },
        });
        let seen = |config: Value| replaced(&schema, config).map(|(_, seen)| seen);
        assert_eq!(seen(json!({ "rest": ["/1", "/2"] })).unwrap(), ["/rest/1=/2"]);
        assert_eq!(seen(json!({ "meta": { "type": "object" } })).unwrap(), [""; 0]);
        // What is not found here may be marked there.
        for name in ["coded", "by-id"] {
            assert_eq!(seen(json!({ name: "/3" })).unwrap_err().code, code::CONTRACT_VIOLATION);
        }
    }

    #[test]
    fn a_refusal_ends_it_and_so_does_a_schema_that_leads_nowhere() {
        let schema = json!({ "additionalProperties": { "format": FORMAT } });
        let refused = replace(&schema, &mut json!({ "a": "/x" }), &mut |_, _| Err(Fault::new(code::DIRECTORY_NOT_GRANTED, "no")));
        assert_eq!(refused.unwrap_err().code, code::DIRECTORY_NOT_GRANTED);
        for schema in [json!({ "$ref": "#", "title": FORMAT }), json!({ "allOf": [{ "$ref": "#" }, { "$ref": "#" }], "title": FORMAT })] {
            assert_eq!(replaced(&schema, json!({})).unwrap_err().code, code::CONTRACT_VIOLATION);
        }
    }
}
