//! Forms for free answers, as JSON Schema that the host can judge by.
//!
//! A form of an MCP server is rebuilt of the keywords that the protocol allows (specification 2025-11-25, elicitation): an
//! odd schema of some server must not end the run. The server judges the answer by its own.

use serde_json::{Map, Value, json};

use super::ask_user::{One, said};

/// Fields of one form, at most.
const MAX_FIELDS: usize = 256;

/// A form with a field for each question, named by it: one of the labels, or the person's own words.
pub fn of_questions(questions: &[One]) -> Value {
    let fields: Map<String, Value> = questions
        .iter()
        .map(|one| {
            let labels: Vec<&str> = one.options.iter().map(|option| option.label.as_str()).collect();
            let offered: Vec<String> = one.options.iter().map(said).collect();
            let text = json!({ "type": "string", "minLength": 1, "examples": labels });
            let mut field = if one.multi_select { json!({ "type": ["array", "string"], "items": text }) } else { text };
            field["title"] = one.header.clone().unwrap_or_else(|| one.question.clone()).into();
            field["description"] = format!("one of these, or your own words: {}", offered.join("; ")).into();
            (one.question.clone(), field)
        })
        .collect();
    json!({ "type": "object", "properties": fields, "minProperties": 1, "additionalProperties": false })
}

/// The form of an MCP server's `requestedSchema`; none where it asks for nothing.
pub fn of_server(schema: &Value) -> Option<Value> {
    let fields: Map<String, Value> =
        schema.get("properties")?.as_object()?.iter().take(MAX_FIELDS).map(|(name, field)| (name.clone(), of_field(field))).collect();
    let wanted = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let mut required: Vec<&str> = wanted.filter_map(Value::as_str).filter(|name| fields.contains_key(*name)).collect();
    required.sort_unstable();
    required.dedup();
    Some(json!({ "type": "object", "required": required, "properties": fields }))
}

fn of_field(field: &Value) -> Value {
    let mut out = Map::new();
    let mut keep = |name: &str, fits: &dyn Fn(&Value) -> bool| {
        if let Some(value) = field.get(name).filter(|value| fits(value)) {
            out.insert(name.to_owned(), value.clone());
        }
    };
    for name in ["title", "description", "format"] {
        keep(name, &Value::is_string);
    }
    for name in ["minimum", "maximum"] {
        keep(name, &Value::is_number);
    }
    for name in ["minLength", "maxLength", "minItems", "maxItems"] {
        keep(name, &Value::is_u64);
    }
    keep("default", &|_| true);
    keep("type", &|kind| ["string", "number", "integer", "boolean", "array"].iter().any(|known| kind == known));
    keep("enum", &is_enum);
    for name in ["oneOf", "anyOf"] {
        keep(name, &is_titled);
    }
    if let Some(items) = field.get("items").filter(|items| items.is_object()) {
        out.insert("items".to_owned(), of_field(items));
    }
    out.into()
}

/// A list of different texts.
fn is_enum(value: &Value) -> bool {
    value.as_array().is_some_and(|all| !all.is_empty() && all.iter().enumerate().all(|(n, one)| one.is_string() && !all[..n].contains(one)))
}

/// A list of constants with titles.
fn is_titled(value: &Value) -> bool {
    let titled = |one: &Value| {
        one.as_object().is_some_and(|fields| {
            fields.get("const").is_some_and(Value::is_string)
                && fields.iter().all(|(name, value)| ["const", "title"].contains(&name.as_str()) && value.is_string())
        })
    };
    value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(titled))
}
