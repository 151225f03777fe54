//! JSON values as TOML, the way `codex -c key=value` wants them.

use falconer_backend::Failure;
use serde_json::Value;

/// `value` as an inline TOML value.
///
/// # Errors
/// `invalid_config`: TOML has no null.
pub fn inline(value: &Value) -> Result<String, Failure> {
    Ok(match value {
        Value::Null => return Err(Failure::new("invalid_config", "settings: a value is null, which codex's configuration cannot express")),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Result<Vec<_>, _>>()?.join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok(format!("{} = {}", quoted(name), inline(value)?)));
            format!("{{{}}}", fields.collect::<Result<Vec<_>, Failure>>()?.join(", "))
        }
    })
}

/// A basic string: TOML 1.0, "String".
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_toml() {
        let value = json!({"a b": [1, 2.5, true], "s": "x\"y\\z\n\u{7f}ä"});
        assert_eq!(inline(&value).unwrap(), r#"{"a b" = [1, 2.5, true], "s" = "x\"y\\z\u000A\u007Fä"}"#);
        assert_eq!(inline(&json!([null])).unwrap_err().code, "invalid_config");
    }
}
