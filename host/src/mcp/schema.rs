//! JSON Schemas as clients understand them: flat, without references, without combinators, without Rust's formats.
//!
//! schemars writes what the types are; here it is rewritten so that the strictest clients take it: an optional value is a
//! list of types instead of `anyOf`, words are an `enum` instead of `oneOf`, and a tagged union is one object with the
//! fields of all its cases. What a schema then no longer says (which fields go together) is checked in code.

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of what a tool takes: closed, every field optional or required, none of them `null`.
#[must_use]
pub fn input<T: JsonSchema>() -> JsonObject {
    let mut schema = made::<T>(SchemaSettings::draft2020_12());
    clean(&mut schema, false);
    let mut schema = into_object(schema);
    schema.entry("properties").or_insert_with(|| json!({}));
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema
}

/// The schema of what a tool answers, which allows the failures too ([`super::answer::failure`]): some clients check
/// those as well, so nothing is required at the root, and the fields of a failure are listed.
#[must_use]
pub fn output<T: JsonSchema>() -> JsonObject {
    let mut schema = made::<T>(SchemaSettings::draft2020_12().for_serialize());
    clean(&mut schema, true);
    let mut schema = into_object(schema);
    schema.remove("required");
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (name, of) in [
            ("code", json!({ "type": "string", "description": "Only of a failure (isError): what kind, in snake_case." })),
            ("message", json!({ "type": "string", "description": "Only of a failure: what went wrong." })),
            ("retryable", json!({ "type": "boolean", "description": "Only of a failure: the same call may succeed later." })),
            ("hint", json!({ "type": "string", "description": "Only of a failure: what to do about it." })),
        ] {
            properties.entry(name).or_insert(of);
        }
    }
    schema
}

fn made<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn into_object(schema: Value) -> JsonObject {
    match schema {
        Value::Object(mut fields) => {
            // The type's own name and docs are for Rust; the tool has a title and a description of its own.
            fields.remove("description");
            fields.insert("type".to_owned(), Value::String("object".to_owned()));
            fields
        }
        _ => JsonObject::new(),
    }
}

fn clean(schema: &mut Value, nulls: bool) {
    let Value::Object(fields) = schema else { return };
    if let Some(Value::Array(cases)) = fields.remove("anyOf").or_else(|| fields.remove("oneOf")) {
        merge(fields, cases);
    }
    if let Some(word) = fields.remove("const") {
        fields.insert("enum".to_owned(), json!([word]));
    }
    fields.remove("title");
    fields.remove("$schema");
    fields.remove("$defs");
    fields.remove("format");
    if fields.get("default").is_some_and(Value::is_null) {
        fields.remove("default");
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if !nulls {
        drop_null(fields);
    }
    for place in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = fields.get_mut(place) {
            for of in properties.values_mut() {
                // `true` (anything) is legal, but unknown to some clients.
                if *of == Value::Bool(true) {
                    *of = json!({});
                }
                clean(of, nulls);
            }
        }
    }
    for place in ["items", "additionalProperties"] {
        if let Some(of) = fields.get_mut(place) {
            clean(of, nulls);
        }
    }
}

fn drop_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            fields.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(words)) = fields.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
}

/// Puts the cases of a union into one schema.
fn merge(fields: &mut Map<String, Value>, cases: Vec<Value>) {
    let mut optional = false;
    let mut shapes = Vec::new();
    for mut case in cases {
        if case.get("type").is_some_and(|kind| kind == "null") {
            optional = true;
            continue;
        }
        if let Value::Object(case) = &mut case
            && let Some(Value::Array(inner)) = case.remove("anyOf").or_else(|| case.remove("oneOf"))
        {
            merge(case, inner);
        }
        shapes.push(case);
    }
    if let [one] = shapes.as_slice() {
        for (name, value) in one.as_object().into_iter().flatten() {
            if !fields.contains_key(name) {
                fields.insert(name.clone(), value.clone());
            }
        }
    } else if shapes.iter().all(is_words) {
        let words: Vec<Value> = shapes.iter().flat_map(words_of).collect();
        fields.insert("type".to_owned(), json!("string"));
        fields.insert("enum".to_owned(), Value::Array(words));
    } else {
        one_object(fields, &shapes);
    }
    if optional {
        if let Some(kind) = fields.get("type").and_then(Value::as_str).map(str::to_owned) {
            fields.insert("type".to_owned(), json!([kind, "null"]));
        }
        if let Some(Value::Array(words)) = fields.get_mut("enum") {
            words.push(Value::Null);
        }
    }
}

fn is_words(shape: &Value) -> bool {
    shape.get("type").is_some_and(|kind| kind == "string") && (shape.get("const").is_some() || shape.get("enum").is_some())
}

fn words_of(shape: &Value) -> Vec<Value> {
    match (shape.get("const"), shape.get("enum")) {
        (Some(word), _) => vec![word.clone()],
        (None, Some(Value::Array(words))) => words.clone(),
        _ => Vec::new(),
    }
}

fn described(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// What the word that tells a case from others means: what is said of the case.
fn meaning_of(word: &Value, case: &Value) -> String {
    let words = words_of(word);
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    format!("{}: {}", words.join(", "), described(case))
}

/// One object with the fields of all cases; required is what every case requires.
fn one_object(fields: &mut Map<String, Value>, shapes: &[Value]) {
    let mut properties: Map<String, Value> = Map::new();
    let mut required: Option<Vec<Value>> = None;
    for shape in shapes {
        for (name, of) in shape.get("properties").and_then(Value::as_object).into_iter().flatten() {
            match properties.get_mut(name) {
                Some(known) if is_words(known) && is_words(of) => {
                    let (mut words, meaning) = (words_of(known), described(known));
                    words.extend(words_of(of));
                    let meaning = format!("{meaning} {}", meaning_of(of, shape));
                    *known = json!({ "type": "string", "enum": words, "description": meaning });
                }
                Some(_) => {}
                None => {
                    let mut of = of.clone();
                    if is_words(&of) {
                        of["description"] = Value::String(meaning_of(&of, shape));
                    }
                    properties.insert(name.clone(), of);
                }
            }
        }
        let these = shape.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        required = Some(match required {
            None => these,
            Some(before) => before.into_iter().filter(|name| these.contains(name)).collect(),
        });
    }
    fields.insert("type".to_owned(), json!("object"));
    fields.insert("properties".to_owned(), Value::Object(properties));
    fields.insert("required".to_owned(), Value::Array(required.unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    /// A word.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        /// The one.
        One,
        /// The other.
        TheOther,
    }

    /// A shape.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Shape {
        /// Nothing more.
        Bare,
        /// With a size.
        Sized {
            /// How large.
            size: u32,
        },
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        /// A word, or none.
        word: Option<Word>,
        /// A shape, or none.
        shape: Option<Shape>,
        /// Words.
        #[serde(default)]
        words: Vec<Word>,
        /// Anything.
        any: Value,
        /// A count.
        count: u64,
    }

    #[test]
    fn what_is_taken_is_closed_and_has_no_null() {
        let schema = Value::Object(input::<Whole>());
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], json!(["any", "count"]));
        let properties = &schema["properties"];
        let one = json!({ "type": "string", "enum": ["one", "the_other"], "description": "A word, or none." });
        assert_eq!(properties["word"], one);
        assert_eq!(properties["words"]["items"]["enum"], json!(["one", "the_other"]));
        assert_eq!(properties["any"], json!({ "description": "Anything." }));
        assert_eq!(properties["count"], json!({ "type": "integer", "minimum": 0, "description": "A count." }));
        assert_eq!(properties["shape"]["type"], "object");
        assert_eq!(properties["shape"]["required"], json!(["kind"]));
        assert_eq!(properties["shape"]["properties"]["kind"]["description"], "bare: Nothing more. sized: With a size.");
    }

    #[test]
    fn what_is_answered_fits_its_schema_and_so_does_a_failure() {
        let schema = Value::Object(output::<Whole>());
        assert_eq!(schema.get("required"), None);
        let validator = jsonschema::validator_for(&schema).unwrap();
        for (word, shape) in [(None, None), (Some(Word::TheOther), Some(Shape::Bare)), (Some(Word::One), Some(Shape::Sized { size: 3 }))] {
            let answer = Whole { word, shape, words: vec![Word::One], any: json!([1]), count: u64::MAX };
            let answer = serde_json::to_value(answer).unwrap();
            assert!(validator.is_valid(&answer), "{answer}");
        }
        assert!(validator.is_valid(&json!({ "code": "c", "message": "m", "retryable": false, "hint": "h" })));
        assert!(!validator.is_valid(&json!({ "word": "another" })));
    }
}
