//! Pictures and files in a message: delivered, or refused with the reason.

use serde_json::{Value, json};

use super::{Stage, text};

/// A red square.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC";
/// `%PDF-1.4\n%%EOF`
const PDF: &str = "JVBERi0xLjQKJSVFT0Y=";
/// `a vole`
const VOLE: &str = "YSB2b2xl";

fn file(mime: &str, name: &str, bytes: &str) -> Value {
    json!({ "type": "file", "mime_type": mime, "name": name, "bytes_base64": bytes })
}

impl Stage {
    fn message(&self, parts: Value) -> Value {
        json!({ "backend": "claude", "cwd": self.work, "message": { "parts": parts } })
    }
}

#[test]
fn pictures_documents_and_texts_are_delivered() {
    let Some(stage) = Stage::usual("files in a message to claude") else { return };
    let parts = json!([
        { "type": "text", "text": "MOCK:hello" },
        file("image/png", "mouse.png", PNG),
        file("application/pdf", "paper.pdf", PDF),
        file("text/plain", "note.txt", VOLE),
        { "type": "data", "data": { "colour": "grey" } },
    ]);
    let (run, _) = stage.completed(stage.message(parts));
    assert_eq!(text(&run), "Hello from the mock model.");
    let body = stage.mock.bodies("paper.pdf").remove(0);
    let blocks: Vec<&Value> = body["messages"].as_array().unwrap().iter().filter_map(|one| one["content"].as_array()).flatten().collect();
    let of = |kind: &str| -> Vec<&&Value> { blocks.iter().filter(|block| block["type"] == kind).collect() };
    assert_eq!(of("image")[0]["source"]["media_type"], "image/png", "{blocks:#?}");
    let documents = of("document");
    assert_eq!((&documents[0]["title"], &documents[0]["source"]["data"]), (&json!("paper.pdf"), &json!(PDF)), "{blocks:#?}");
    assert_eq!((&documents[1]["title"], &documents[1]["source"]["data"]), (&json!("note.txt"), &json!("a vole")), "{blocks:#?}");
    assert!(of("text").iter().any(|block| block["text"].as_str().unwrap().trim() == r#"{"colour":"grey"}"#), "{blocks:#?}");
}

#[test]
fn what_cannot_be_delivered_is_refused_with_the_reason() {
    let Some(stage) = Stage::usual("files that claude does not take") else { return };
    let parts = |part: Value| json!([{ "type": "text", "text": "refused files MOCK:hello" }, part]);
    let zip = stage.message(parts(file("application/zip", "a.zip", PDF)));
    let plan = stage.client.call("plan_run", zip.clone());
    assert_eq!((&plan["allowed"], &plan["refusal"]["code"]), (&json!(false), &json!("unsupported")), "{plan}");
    let (run, _) = stage.fails(zip, "unsupported");
    assert!(run["error"]["message"].as_str().unwrap().contains("application/zip (a.zip)"), "{run}");
    let (run, _) = stage.fails(stage.message(parts(file("image/png", "no.png", VOLE))), "unsupported");
    assert!(run["error"]["message"].as_str().unwrap().contains("no.png is not what its type says"), "{run}");
    assert!(stage.mock.bodies("refused files").is_empty(), "nothing was sent");
}
