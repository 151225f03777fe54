//! What a run chooses of its backend's own settings: the configuration's defaults, and over them what the run says, key by
//! key, where `allow` lets it.

use serde_json::{Map, Value};

use crate::config::{Allow, Backend};
use crate::fault::{Fault, code};

/// The settings of a run. A key that is null was not chosen.
pub(super) fn merge(name: &str, backend: &Backend, asked: Option<&Map<String, Value>>) -> Result<Value, Fault> {
    let mut settings = backend.config.clone();
    for (key, value) in asked.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match backend.allow.get(key) {
            Some(Allow::Any) => {}
            Some(Allow::OneOf(values)) if fits(value, values) => {}
            Some(Allow::OneOf(values)) => return Err(value_refused(name, key, value, values)),
            // The configuration says the very same: nothing is chosen.
            None if settings.get(key) == Some(value) => {}
            None => return Err(key_refused(name, backend, key, value)),
        }
        settings.insert(key.clone(), value.clone());
    }
    Ok(Value::Object(settings))
}

/// A value of the list, or a list of such values; an empty one chooses nothing, and is within any list.
fn fits(value: &Value, values: &[Value]) -> bool {
    values.contains(value) || value.as_array().is_some_and(|items| items.iter().all(|item| values.contains(item)))
}

/// A key, as TOML takes it.
fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if bare { key.to_owned() } else { Value::from(key).to_string() }
}

/// A value for a message: short, and inert.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { format!("{}…", text.chars().take(60).collect::<String>()) }
}

fn key_refused(name: &str, backend: &Backend, key: &str, value: &Value) -> Fault {
    let choices: Vec<&str> = backend.allow.keys().map(String::as_str).collect();
    let known = if choices.is_empty() { "nothing".to_owned() } else { choices.join(", ") };
    let example = if value.is_string() || value.is_number() || value.is_boolean() { format!("[{}]", shown(value)) } else { "true".into() };
    Fault::new(code::NOT_ALLOWED, format!("a run of `{name}` may not choose `{}` (it may choose: {known})", toml_key(key))).hint(format!(
        "leave it out; or a person adds to the configuration, under [backends.{name}.allow]: {} = {example}  (true: any value)",
        toml_key(key)
    ))
}

fn value_refused(name: &str, key: &str, value: &Value, values: &[Value]) -> Fault {
    let list = values.iter().map(shown).collect::<Vec<_>>().join(", ");
    let allowed = if list.is_empty() { "no value".to_owned() } else { list };
    Fault::new(code::NOT_ALLOWED, format!("a run of `{name}` may not choose {} for `{}`; allowed: {allowed}", shown(value), toml_key(key)))
        .hint(format!("take one of these; or a person adds it to [backends.{name}.allow] {} in the configuration", toml_key(key)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::defaults;

    fn asked(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn what_is_allowed_goes_over_the_defaults_key_by_key() {
        let mut backend = defaults::backend("claude");
        backend.config = asked(json!({"model": "opus", "permission_mode": "plan", "tools": ["Bash"]}));
        let merged = merge("claude", &backend, Some(&asked(json!({"model": "haiku", "max_turns": 3, "effort": null})))).unwrap();
        assert_eq!(merged, json!({"model": "haiku", "permission_mode": "plan", "tools": ["Bash"], "max_turns": 3}));
        assert_eq!(merge("claude", &backend, None).unwrap(), Value::Object(backend.config.clone()));
        // Said again as the configuration has it.
        assert!(merge("claude", &backend, Some(&asked(json!({"tools": ["Bash"]})))).is_ok());
    }

    #[test]
    fn a_key_that_is_not_allowed_is_named_with_the_line_to_add() {
        let fault = merge("x", &defaults::backend("x"), Some(&asked(json!({"depth": 3})))).unwrap_err();
        assert_eq!(fault.code, code::NOT_ALLOWED);
        assert_eq!(fault.message, "a run of `x` may not choose `depth` (it may choose: nothing)");
        assert!(fault.hint.unwrap().contains("under [backends.x.allow]: depth = [3]"));
        let odd = merge("x", &defaults::backend("x"), Some(&asked(json!({"a b": {}})))).unwrap_err();
        assert!(odd.hint.unwrap().contains("\"a b\" = true"));
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named_with_those_that_are() {
        let mut backend = defaults::backend("claude");
        let fault = merge("claude", &backend, Some(&asked(json!({"permission_mode": "bypass"})))).unwrap_err();
        assert_eq!(fault.code, code::NOT_ALLOWED);
        assert_eq!(
            fault.message,
            "a run of `claude` may not choose \"bypass\" for `permission_mode`; allowed: \"ask\", \"accept_edits\", \"plan\", \"never_ask_deny\""
        );
        backend.allow.insert("tools".into(), Allow::OneOf(vec![json!("Read"), json!("Bash")]));
        for (value, good) in [
            (json!("Read"), true),
            (json!(["Read", "Bash"]), true),
            (json!([]), true),
            (json!(["Read", "Write"]), false),
            (json!([["Read"]]), false),
            (json!("read"), false),
        ] {
            assert_eq!(merge("claude", &backend, Some(&asked(json!({"tools": value.clone()})))).is_ok(), good, "{value}");
        }
        assert!(
            merge("x", &defaults::backend("x"), Some(&asked(json!({"tools": []})))).is_err(),
            "a key that is not there is not chosen empty"
        );
    }
}
