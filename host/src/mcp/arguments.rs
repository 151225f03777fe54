//! Arguments, judged against the schema that the client was shown, and parsed.
//!
//! The schema is the one source of names, types and ranges, so what a description promises is what is enforced. Every
//! fault names the field, what is wrong with it and what would be right, for a model to mend its call by. `null` stands
//! for a field that was left out, and `3.0` for `3`: clients write both.

use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::fault::{Fault, code};

/// How like a known name an unknown one must be to be taken for it (Jaro-Winkler, 0 to 1).
const LIKENESS: f64 = 0.8;

/// Arguments as the type that the tool takes.
pub fn parse<T: DeserializeOwned>(tool: &str, schema: &JsonObject, mut arguments: JsonObject) -> Result<T, Fault> {
    object(tool, "", schema, &mut arguments)?;
    serde_json::from_value(Value::Object(arguments)).map_err(|error| invalid(format!("the arguments of {tool} do not fit: {error}")))
}

fn invalid(message: String) -> Fault {
    Fault::new(code::INVALID_ARGUMENT, message)
}

/// A fault of one field, with what the schema says of it.
fn wrong(schema: &Map<String, Value>, message: String) -> Fault {
    let fault = invalid(message);
    match schema.get("description").and_then(Value::as_str) {
        Some(description) => fault.hint(description),
        None => fault,
    }
}

fn object(tool: &str, at: &str, schema: &Map<String, Value>, given: &mut Map<String, Value>) -> Result<(), Fault> {
    let nothing = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&nothing);
    let place = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };

    if schema.get("additionalProperties") == Some(&Value::Bool(false))
        && let Some(unknown) = given.keys().find(|name| !properties.contains_key(*name))
    {
        let whole = if at.is_empty() { tool.to_owned() } else { format!("`{at}` of {tool}") };
        return Err(unknown_field(&whole, &shown(unknown), properties));
    }
    given.retain(|name, value| !(value.is_null() && properties.contains_key(name)));
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !given.contains_key(name) {
            let of = properties.get(name).and_then(Value::as_object).unwrap_or(&nothing);
            return Err(wrong(of, format!("{tool} needs `{}`", place(name))));
        }
    }
    for (name, value) in given.iter_mut() {
        if let Some(of) = properties.get(name).and_then(Value::as_object) {
            field(tool, &place(name), of, value)?;
        }
    }
    Ok(())
}

fn unknown_field(whole: &str, unknown: &str, properties: &Map<String, Value>) -> Fault {
    let like = properties
        .keys()
        .map(|known| (strsim::jaro_winkler(&unknown.to_lowercase(), known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let message = match like {
        Some((_, known)) => format!("{whole} has no field `{unknown}`; did you mean `{known}`?"),
        None => format!("{whole} has no field `{unknown}`"),
    };
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    let hint = if known.is_empty() { "it takes no fields".to_owned() } else { format!("its fields: {}", known.join(", ")) };
    invalid(message).hint(hint)
}

fn field(tool: &str, at: &str, schema: &Map<String, Value>, value: &mut Value) -> Result<(), Fault> {
    let Some(wanted) = schema.get("type").and_then(Value::as_str) else { return Ok(()) };
    if wanted == "integer"
        && let Some(whole) = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)
        && value.is_f64()
    {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        let whole = whole as i64;
        *value = Value::from(whole);
    }
    let fits = match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if !fits {
        return Err(wrong(schema, format!("`{at}` of {tool} must be {}, not {}", with_article(wanted), kind(value))));
    }
    match value {
        Value::String(text) => text_field(tool, at, schema, text),
        Value::Number(_) => {
            let limits = (bound(schema, "minimum"), bound(schema, "maximum"));
            let given = value.as_f64().unwrap_or_default();
            range(tool, at, schema, &value.to_string(), given, limits, "")
        }
        Value::Array(items) => {
            let limits = (bound(schema, "minItems"), bound(schema, "maxItems"));
            #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
            range(tool, at, schema, &format!("{} items long", items.len()), items.len() as f64, limits, " items")?;
            if let Some(of) = schema.get("items").and_then(Value::as_object) {
                for (number, item) in items.iter_mut().enumerate() {
                    field(tool, &format!("{at}[{number}]"), of, item)?;
                }
            }
            Ok(())
        }
        Value::Object(fields) => object(tool, at, schema, fields),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn text_field(tool: &str, at: &str, schema: &Map<String, Value>, text: &str) -> Result<(), Fault> {
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.iter().any(|choice| choice == text)
    {
        let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        return Err(invalid(format!("`{at}` of {tool} cannot be `{}`", shown(text))).hint(format!("one of: {}", choices.join(", "))));
    }
    let limits = (bound(schema, "minLength"), bound(schema, "maxLength"));
    if limits == (None, None) {
        return Ok(());
    }
    let length = text.chars().count();
    #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
    range(tool, at, schema, &format!("{length} characters long"), length as f64, limits, " characters")
}

fn bound(schema: &Map<String, Value>, name: &str) -> Option<f64> {
    schema.get(name).and_then(Value::as_f64)
}

fn range(
    tool: &str,
    at: &str,
    schema: &Map<String, Value>,
    what: &str,
    given: f64,
    limits: (Option<f64>, Option<f64>),
    unit: &str,
) -> Result<(), Fault> {
    let right = match limits {
        (Some(least), Some(most)) if given < least || given > most => format!("between {least} and {most}{unit}"),
        (Some(least), None) if given < least => format!("at least {least}{unit}"),
        (None, Some(most)) if given > most => format!("at most {most}{unit}"),
        _ => return Ok(()),
    };
    Err(wrong(schema, format!("`{at}` of {tool} is {what}; it must be {right}")))
}

fn with_article(kind: &str) -> &'static str {
    match kind {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "an array",
        _ => "an object",
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The text of a caller, fit for a message.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::schema;
    use crate::run::request::{ContinueRequest, PollRequest, SpawnRequest, WaitFor, WaitRequest};

    fn parsed<T: DeserializeOwned + schemars::JsonSchema>(tool: &str, arguments: Value) -> Result<T, Fault> {
        let Value::Object(arguments) = arguments else { panic!("no object") };
        parse(tool, &schema::input::<T>(), arguments)
    }

    fn fault<T: DeserializeOwned + schemars::JsonSchema>(tool: &str, arguments: Value) -> Fault {
        match parsed::<T>(tool, arguments) {
            Ok(_) => panic!("this fits"),
            Err(fault) => fault,
        }
    }

    #[test]
    fn an_unknown_field_is_named_with_the_one_it_may_be() {
        let fault = fault::<SpawnRequest>("spawn_run", json!({ "backend": "exec", "promt": "x" }));
        assert_eq!(fault.code, code::INVALID_ARGUMENT);
        assert_eq!(fault.message, "spawn_run has no field `promt`; did you mean `prompt`?");
        assert!(fault.hint.unwrap().contains("request_key"));
    }

    #[test]
    fn an_unknown_field_inside_another_is_named_with_its_place() {
        let answer = json!({ "question_id": "q", "details_hash": "h", "choice": ["yes"] });
        let fault = fault::<ContinueRequest>("continue_run", json!({ "run_id": "run", "answer": answer }));
        assert_eq!(fault.message, "`answer` of continue_run has no field `choice`; did you mean `choices`?");
    }

    #[test]
    fn a_missing_field_is_named_and_explained() {
        let fault = fault::<PollRequest>("poll_events", json!({}));
        assert_eq!(fault.message, "poll_events needs `run_id`");
        assert_eq!(fault.hint.as_deref(), Some("Run id or session name."));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let message = |value| fault::<PollRequest>("poll_events", json!({ "run_id": "r", "wait_ms": value })).message;
        assert_eq!(message(json!("5")), "`wait_ms` of poll_events must be an integer, not a string");
        assert_eq!(message(json!(0.5)), "`wait_ms` of poll_events must be an integer, not a number with a fraction");
        assert_eq!(message(json!([1])), "`wait_ms` of poll_events must be an integer, not an array");
    }

    #[test]
    fn ranges_hold_at_both_ends() {
        let of = |wait: Value| parsed::<PollRequest>("poll_events", json!({ "run_id": "r", "wait_ms": wait }));
        assert_eq!(of(json!(45_000)).unwrap().wait_ms, Some(45_000));
        assert_eq!(of(json!(0)).unwrap().wait_ms, Some(0));
        assert_eq!(of(json!(45_001)).unwrap_err().message, "`wait_ms` of poll_events is 45001; it must be between 0 and 45000");
        assert_eq!(of(json!(-1)).unwrap_err().message, "`wait_ms` of poll_events is -1; it must be between 0 and 45000");
        let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
        let fault = fault::<WaitRequest>("wait_runs", json!({ "run_ids": many }));
        assert_eq!(fault.message, "`run_ids` of wait_runs is 101 items long; it must be between 1 and 100 items");
        let fault = self::fault::<SpawnRequest>("spawn_run", json!({ "backend": "exec", "request_key": "" }));
        assert_eq!(fault.message, "`request_key` of spawn_run is 0 characters long; it must be between 1 and 128 characters");
    }

    #[test]
    fn a_word_out_of_a_list_is_named_with_the_list() {
        let fault = fault::<WaitRequest>("wait_runs", json!({ "run_ids": ["r"], "mode": "some" }));
        assert_eq!(fault.message, "`mode` of wait_runs cannot be `some`");
        assert_eq!(fault.hint.as_deref(), Some("one of: any, all"));
        let fault = self::fault::<PollRequest>("poll_events", json!({ "run_id": "r", "types": ["usage", "uses"] }));
        assert_eq!(fault.message, "`types[1]` of poll_events cannot be `uses`");
    }

    #[test]
    fn null_is_nothing_and_a_whole_number_may_have_a_point() {
        let request: WaitRequest = parsed("wait_runs", json!({ "run_ids": ["r"], "mode": null, "wait_ms": 5.0 })).unwrap();
        assert_eq!((request.mode, request.wait_ms), (WaitFor::Any, Some(5)));
        let metadata = json!({ "kept": null });
        let request: SpawnRequest = parsed("spawn_run", json!({ "backend": "exec", "prompt": null, "metadata": metadata })).unwrap();
        assert_eq!(request.prompt, None);
        assert_eq!(Value::Object(request.metadata.unwrap()), metadata);
    }
}
