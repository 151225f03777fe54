//! Structured answers: right, wrong, missing.

use serde_json::{Value, json};

use super::{Stage, script};

impl Stage {
    fn wanting(&self, prompt: &str, schema: Value) -> Value {
        let mut request = self.request(prompt);
        request["output_schema"] = schema;
        request
    }
}

#[test]
fn a_structured_answer_is_right_or_the_run_fails() {
    let Some(stage) = Stage::usual("structured answers of claude") else { return };
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["n"], "unevaluatedProperties": false,
        "properties": { "n": { "type": "integer" }, "pair": { "type": "array", "prefixItems": [{ "type": "string" }], "items": false } },
    });
    let gives = |value: Value| format!("MOCK:structured {}", json!({ "value": value }));
    let (run, _) = stage.completed(stage.wanting(&gives(json!({ "n": 3, "pair": ["a"] })), schema.clone()));
    assert_eq!(run["result"]["structured"], json!({ "n": 3, "pair": ["a"] }), "{run}");

    // What the program cannot judge, the host does.
    let (run, _) = stage.fails(stage.wanting(&gives(json!({ "n": 3, "pair": [1] })), schema.clone()), "output_invalid");
    assert!(run["error"]["message"].as_str().unwrap().contains("/pair/0"), "{run}");

    let wrong = script(&Value::from(vec![json!([{ "tool": "StructuredOutput", "input": { "n": "three" } }]); 8]));
    let (run, _) = stage.fails(stage.wanting(&wrong, schema.clone()), "output_invalid");
    assert!(run["error"]["message"].as_str().unwrap().contains("/n"), "{run}");

    let (run, _) = stage.fails(stage.wanting("MOCK:hello", schema), "output_invalid");
    assert!(run["error"]["message"].as_str().unwrap().contains("no structured answer"), "{run}");
}

#[test]
fn an_answer_that_is_no_object_and_a_schema_that_is_too_large() {
    let Some(stage) = Stage::usual("odd schemas for claude") else { return };
    let list = json!({ "type": "array", "items": { "$ref": "#/$defs/name" }, "$defs": { "name": { "type": "string" } } });
    let prompt = "MOCK:structured {\"value\":{\"value\":[\"mouse\",\"vole\"]}}";
    let (run, _) = stage.completed(stage.wanting(prompt, list));
    assert_eq!(run["result"]["structured"], json!(["mouse", "vole"]), "{run}");

    let large = json!({ "type": "object", "description": "x".repeat(140_000) });
    let plan = stage.client.call("plan_run", stage.wanting("MOCK:hello", large.clone()));
    assert_eq!((&plan["allowed"], &plan["refusal"]["code"]), (&json!(false), &json!("invalid_argument")), "{plan}");
    stage.fails(stage.wanting("MOCK:hello", large), "invalid_argument");
}
