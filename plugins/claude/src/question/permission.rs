//! What an "allow, and from now on" grants: the rules that the program suggests, for this session alone.
//!
//! The program would write some of them into the project's settings, and others would change its mode; neither is what a
//! person says yes to here. So every rule is held to the session, and a mode is taken only where nothing narrower is offered.

use serde_json::Value;

/// The changes to grant with an answer, out of those that the program suggests.
pub fn for_session(suggested: Vec<Value>) -> Vec<Value> {
    let kind = |one: &Value| one["type"].as_str().unwrap_or_default().to_owned();
    let (rules, rest): (Vec<Value>, Vec<Value>) = suggested
        .into_iter()
        .filter(|one| one.is_object())
        .partition(|one| kind(one) == "addDirectories" || (kind(one) == "addRules" && one["behavior"] == "allow"));
    let modes = rest.into_iter().filter(|one| kind(one) == "setMode" && one["mode"] == "acceptEdits");
    let mut taken = if rules.is_empty() { modes.take(1).collect() } else { rules };
    for one in &mut taken {
        one["destination"] = "session".into();
    }
    taken
}

/// What they allow, for people.
pub fn described(permissions: &[Value]) -> String {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut said = Vec::new();
    for one in permissions {
        match one["type"].as_str().unwrap_or_default() {
            "addRules" => {
                let rules = one["rules"].as_array().into_iter().flatten().map(|rule| {
                    let tool = rule["toolName"].as_str().unwrap_or("?");
                    rule["ruleContent"].as_str().map_or_else(|| tool.to_owned(), |content| format!("{tool}({content})"))
                });
                said.extend(rules);
            }
            "addDirectories" => said.extend(texts(&one["directories"]).into_iter().map(|dir| format!("work in {dir}"))),
            _ => said.push("every edit in its directories".to_owned()),
        }
    }
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_hold_for_the_session_alone() {
        let suggested = json!([
            {"type": "addRules", "rules": [{"toolName": "Bash", "ruleContent": "touch x *"}], "behavior": "allow", "destination": "localSettings"},
            {"type": "addDirectories", "directories": ["/w"], "destination": "session"},
            {"type": "setMode", "mode": "acceptEdits", "destination": "session"},
            {"type": "removeRules", "rules": [{"toolName": "Bash"}], "behavior": "deny", "destination": "userSettings"},
        ]);
        let taken = for_session(suggested.as_array().cloned().unwrap());
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|one| one["destination"] == "session"), "{taken:?}");
        assert_eq!(described(&taken), "Bash(touch x *), work in /w");
    }

    #[test]
    fn a_mode_is_taken_alone_and_never_a_wide_one() {
        let edits = json!({"type": "setMode", "mode": "acceptEdits", "destination": "userSettings"});
        let taken = for_session(vec![edits]);
        assert_eq!((taken.len(), taken[0]["destination"].as_str()), (1, Some("session")));
        assert_eq!(described(&taken), "every edit in its directories");
        for mode in ["bypassPermissions", "auto", "dontAsk"] {
            assert_eq!(for_session(vec![json!({"type": "setMode", "mode": mode})]), Vec::<Value>::new());
        }
        assert_eq!(for_session(vec![json!("odd"), json!({"type": "addRules", "behavior": "deny"})]), Vec::<Value>::new());
    }
}
