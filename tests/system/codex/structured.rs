//! Structured answers: right, wrong, none.

use serde_json::{Value, json};

use super::Stage;

fn schema() -> Value {
    json!({ "type": "object", "properties": { "mice": { "type": "integer" } }, "required": ["mice"], "additionalProperties": false })
}

#[test]
fn a_value_is_passed_on_and_judged() {
    let Some(stage) = Stage::set("structured answers of codex") else { return };
    let request = |text: &str| {
        let mut request = stage.request(&format!("MOCK:json {}", json!({ "text": text })));
        request["output_schema"] = schema();
        request
    };
    let (run, _) = stage.completed(request(r#"{"mice":3}"#));
    assert_eq!(run["result"]["structured"], json!({ "mice": 3 }), "{run}");
    let format = &stage.mock.bodies("").pop().unwrap()["text"]["format"];
    assert_eq!((&format["type"], &format["schema"]), (&json!("json_schema"), &schema()), "{format}");
    for wrong in [r#"{"mice":"three"}"#, "three mice"] {
        let (run, _) = stage.failed(request(wrong), "output_invalid");
        assert!(run["error"]["message"].is_string(), "{run}");
    }
    // A follow-up keeps it.
    let (first, _) = stage.completed(request(r#"{"mice":1}"#));
    let (next, _) = stage.continued(&first, &format!("MOCK:json {}", json!({ "text": "{\"mice\":2}" })));
    assert_eq!(next["result"]["structured"], json!({ "mice": 2 }), "{next}");
}
