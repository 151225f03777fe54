//! Large values, read back in slices that never cut a character in two.

use serde_json::json;

use crate::host::Host;

/// More than an event holds inline.
const SIZE: usize = 17_000;
const THREADS: usize = 8;

/// What the mode `multibyte` writes: characters of one to four bytes.
fn text() -> String {
    let mut text = String::new();
    for c in "aé€𝄞".chars().cycle() {
        if text.len() + c.len_utf8() > SIZE {
            return text;
        }
        text.push(c);
    }
    text
}

#[test]
fn a_multibyte_text_is_whole_at_every_offset() {
    let host = Host::usual();
    let client = host.client();
    let text = text();
    let run = client.run(host.hostile(json!({ "mode": "multibyte", "size": SIZE })));
    let id = run["run_id"].as_str().unwrap();
    let event = client.event(id, "the text", |event| event["type"] == "agent_message");
    let slice = |offset: usize, limit: usize| {
        client
            .call("get_event_artifact", json!({ "run_id": id, "seq": event["seq"], "pointer": "/text", "offset": offset, "limit": limit }))
    };

    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (text, slice) = (&text, &slice);
            scope.spawn(move || {
                for offset in (thread..text.len()).step_by(THREADS) {
                    let slice = slice(offset, 16);
                    let begin = text.floor_char_boundary(offset);
                    let content = slice["content"].as_str().unwrap();
                    assert_eq!(slice["offset"], json!(begin), "{slice}");
                    assert!(!content.is_empty() && text[begin..].starts_with(content), "at {offset}: {slice}");
                    assert_eq!(slice["returned_bytes"], json!(content.len()), "{slice}");
                    assert_eq!(slice["total_bytes"], json!(text.len()));
                    assert_eq!(slice["encoding"], "utf-8");
                }
            });
        }
    });

    // Slice by slice, each where the last one ended.
    let mut whole = String::new();
    let mut offset = Some(0);
    while let Some(begin) = offset {
        let slice = slice(usize::try_from(begin).unwrap(), 1_000);
        whole.push_str(slice["content"].as_str().unwrap());
        offset = slice["next_offset"].as_u64();
    }
    assert_eq!(whole, text);

    let at_end = slice(text.len(), 16);
    assert_eq!((&at_end["content"], &at_end["next_offset"]), (&json!(""), &json!(null)), "{at_end}");
    let wrong = |arguments, code| drop(client.refused("get_event_artifact", arguments, code));
    wrong(json!({ "run_id": id, "seq": 9_999, "pointer": "/text" }), "unknown_artifact");
    wrong(json!({ "run_id": id, "seq": event["seq"], "pointer": "/nothing" }), "unknown_artifact");
    wrong(json!({ "run_id": id, "seq": event["seq"], "pointer": "/text", "limit": 1 }), "invalid_argument");
}

#[test]
fn a_small_field_is_read_the_same_way() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(host.hostile(json!({ "mode": "multibyte", "size": 10 })));
    let id = run["run_id"].as_str().unwrap();
    let event = client.event(id, "the text", |event| event["type"] == "agent_message");
    let slice = client.call("get_event_artifact", json!({ "run_id": id, "seq": event["seq"], "pointer": "/text" }));
    assert_eq!(slice["content"], event["data"]["text"]);
}
