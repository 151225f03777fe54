//! Structured answers: the host checks them itself, and says where one is wrong.

use serde_json::{Value, json};

use crate::host::Host;

fn schema() -> Value {
    json!({ "type": "object", "required": ["steps"], "properties": { "steps": { "type": "array", "prefixItems": [{ "type": "integer" }], "items": { "type": "string" } } } })
}

#[test]
fn a_right_one_is_given_back_and_a_wrong_or_missing_one_fails_the_run() {
    let host = Host::usual();
    let client = host.client();
    let run = |text: &str| {
        let mut request = host.hostile(json!({ "mode": "structured", "text": text }));
        request["output_schema"] = schema();
        client.run(request)
    };
    let right = run(r#"{ "steps": [1, "two"] }"#);
    assert_eq!((&right["status"], &right["result"]["structured"]), (&json!("completed"), &json!({ "steps": [1, "two"] })), "{right}");
    let wrong = run(r#"{ "steps": [1, 2] }"#);
    assert_eq!((&wrong["status"], &wrong["error"]["code"]), (&json!("failed"), &json!("output_invalid")), "{wrong}");
    let error = &wrong["error"];
    assert!(error["message"].as_str().unwrap().contains("`/steps/1`"), "where in the value: {error}");
    assert!(error["hint"].as_str().unwrap().contains("`/properties/steps/items/type`"), "where in the schema: {error}");
    assert_eq!(wrong["result"]["structured"], json!({ "steps": [1, 2] }), "what was given is kept");
    let missing = run("");
    assert_eq!((&missing["status"], &missing["error"]["code"]), (&json!("failed"), &json!("output_invalid")), "{missing}");
    assert_eq!(missing["result"]["text"], "as told");
}

#[test]
fn a_schema_that_is_none_is_refused_before_the_run() {
    let host = Host::usual();
    let client = host.client();
    for (schema, where_) in [
        (json!({ "properties": { "a": { "type": "objekt" } } }), "`/properties/a/type`"),
        (json!({ "$ref": "https://example.org/schema.json" }), "example.org"),
        (json!({ "required": "a" }), "`/required`"),
    ] {
        let mut request = host.hostile(json!({ "mode": "structured", "text": "{}" }));
        request["output_schema"] = schema;
        let refusal = client.refused("spawn_run", request, "invalid_argument");
        assert!(refusal.message.contains(where_), "{refusal:?}");
    }
}
