//! The plugins directory, with real components in it.

use std::collections::BTreeMap;

use serde_json::json;

use super::guest::{Guest, SPIN};
use super::*;
use crate::backend::{Backend, Registry, State};
use crate::config;
use crate::fault::code;

fn configuration(room: &Room, backends: BTreeMap<String, config::Backend>) -> config::Config {
    config::Config {
        file: None,
        digest: String::new(),
        scratch: false,
        data_dir: room.dir.join("data"),
        plugins_dir: room.dir.join("plugins"),
        path: Vec::new(),
        home: room.dir.clone(),
        profiles: BTreeMap::new(),
        client: config::Client { cwd_is_workspace: false },
        stop: config::Stop { ask: Duration::ZERO, terminate: Duration::ZERO, drain: Duration::ZERO, prove: Duration::ZERO },
        host: config::Host {
            fan_out: 10,
            runs: 1,
            queued: 1,
            depth: 1,
            question: Duration::ZERO,
            call: Duration::from_secs(5),
            cgroup: config::Cgroup::Off,
        },
        backends,
        network: config::Network::default(),
        targets: Vec::new(),
        tags: BTreeMap::new(),
        rules: Vec::new(),
    }
}

fn entry(enabled: bool, digest: Option<String>) -> config::Backend {
    config::Backend {
        enabled,
        digest,
        config: serde_json::Map::new(),
        grants: config::Grants::default(),
        allow: BTreeMap::new(),
        limits: run_limits(),
    }
}

fn run_limits() -> config::Limits {
    config::Limits {
        runs: 1,
        wall: Duration::from_secs(60),
        idle: None,
        memory: MEMORY,
        call_cpu: Duration::from_secs(1),
        cpu: Duration::from_secs(1),
        events: 1,
        output: 1,
        events_per_s: 1,
        children: 1,
        tree: config::TreeLimits::default(),
    }
}

fn registry(room: &Room) -> Registry {
    Registry::open(room.engine.clone(), &configuration(room, BTreeMap::new()))
}

fn failure(backend: &Backend) -> crate::fault::Fault {
    match &backend.state {
        State::Failed(fault) => fault.clone(),
        other => panic!("{} is {other:?}", backend.name),
    }
}

async fn one(registry: &Registry, name: &str) -> Arc<Backend> {
    registry.list().await.into_iter().find(|backend| backend.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_listed_checked_planned_and_run() {
    let room = Room::new();
    let schema = json!({ "type": "object", "properties": { "speed": { "type": "integer" } }, "additionalProperties": false });
    let guest = Guest::new().title("Kestrel").schema(&schema.to_string()).build();
    put(&room.dir.join("plugins"), "kestrel", &guest);
    let registry = registry(&room);
    let listed = one(&registry, "kestrel").await;
    assert!(matches!(listed.state, State::Ready), "{:?}", listed.state);
    assert_eq!(listed.digest, crate::backend::cache::digest(&guest));
    assert_eq!(listed.source, room.dir.join("plugins/kestrel.wasm").as_str());
    let description = listed.description.as_ref().unwrap();
    assert_eq!((description.title.as_str(), &description.config_schema), ("Kestrel", &schema));

    let backend = registry.get("kestrel").await.unwrap();
    assert!(Arc::ptr_eq(&backend, &listed), "the same build is the same backend");
    backend.check_config(&json!({ "speed": 3 }), None).unwrap();
    assert!(backend.check_config(&json!({ "speed": "fast" }), None).unwrap_err().message.contains("/speed"));
    assert!(backend.plan(job()).await.unwrap().unwrap().actions.is_empty());
    let made =
        crate::backend::Made { backend, host: Host::refusing(None), news: News::default(), log: RunLog::none(), limits: run_limits() };
    Instance::new(made).await.unwrap().start(job()).await.unwrap().unwrap();
    assert_eq!(registry.get("merlin").await.map(drop).unwrap_err().code, code::UNKNOWN_BACKEND);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backend_is_listed_as_failed_with_the_reason() {
    let room = Room::new();
    let dir = room.dir.join("plugins");
    put(&dir, "good", &Guest::new().build());
    put(&dir, "garbage", b"this is no wasm");
    put(&dir, "empty", b"");
    put(&dir, "core", &wat::parse_str("(module)").unwrap());
    put(&dir, "cut-short", &Guest::new().build()[..500]);
    put(&dir, "other-world", &wat::parse_str("(component)").unwrap());
    put(&dir, "other-version", &Guest::new().build_version("0.2.0"));
    put(&dir, "asks-more", &wat::parse_str(r#"(component (import "acme:gun/trigger@1.0.0" (instance)))"#).unwrap());
    let later = Guest::new()
        .import(Some("wasi:clocks/system-clock@0.3.0"), r#"(import "wasi:clocks/system-clock@0.3.0" "now" (func $now (result i64)))"#);
    put(&dir, "later-wasi", &later.body("poll", "(drop (call $now)) (i32.const 256)").build());
    put(&dir, "traps", &Guest::new().body("describe", "unreachable").build());
    put(&dir, "spins", &Guest::new().body("describe", SPIN).build());
    put(&dir, "bad-schema", &Guest::new().schema(r#"{"type":"objekt"}"#).build());
    put(&dir, "no-json", &Guest::new().schema("{").build());
    put(&dir, "Bad_Name", &Guest::new().build());
    let registry = registry(&room);
    let listed = registry.list().await;
    let expected = [
        ("garbage", code::WIT_VERSION, "no WebAssembly"),
        ("empty", code::WIT_VERSION, "no WebAssembly"),
        ("core", code::WIT_VERSION, "core WebAssembly module"),
        ("cut-short", code::WIT_VERSION, "no valid component"),
        ("other-world", code::WIT_VERSION, "does not export"),
        ("other-version", code::WIT_VERSION, "0.2.0"),
        ("asks-more", code::WIT_VERSION, "acme:gun/trigger@1.0.0"),
        ("later-wasi", code::WASI_VERSION, "wasi:clocks/system-clock@0.3.0"),
        ("traps", code::BACKEND_TRAPPED, "describe"),
        ("spins", code::BACKEND_BUSY, "describe"),
        ("bad-schema", code::CONTRACT_VIOLATION, "objekt"),
        ("no-json", code::CONTRACT_VIOLATION, "no JSON"),
        ("Bad_Name", code::BACKEND_UNAVAILABLE, "no name of a backend"),
    ];
    assert_eq!(listed.len(), expected.len() + 1 + falconer_bundle::BACKENDS.len());
    for (name, code, words) in expected {
        let fault = failure(listed.iter().find(|backend| backend.name == name).unwrap());
        assert!(fault.code == code && fault.message.contains(words), "{name}: {fault:?}");
        let refused = registry.get(name).await.map(drop).unwrap_err();
        let right = if name == "Bad_Name" { code::UNKNOWN_BACKEND } else { code::BACKEND_UNAVAILABLE };
        assert_eq!(refused.code, right, "{name}");
    }
    registry.get("good").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_build_is_found_and_a_run_keeps_its_own() {
    let room = Room::new();
    let dir = room.dir.join("plugins");
    put(&dir, "x", &Guest::new().title("one").build());
    let registry = registry(&room);
    let first = registry.get("x").await.unwrap();
    let made = |backend: &Arc<Backend>| crate::backend::Made {
        backend: backend.clone(),
        host: Host::refusing(None),
        news: News::default(),
        log: RunLog::none(),
        limits: run_limits(),
    };
    let running = Instance::new(made(&first)).await.unwrap();
    put(&dir, "x", &Guest::new().title("two").build());
    let second = registry.get("x").await.unwrap();
    assert_ne!(first.digest, second.digest);
    assert_eq!(second.description.as_ref().unwrap().title, "two");
    assert_eq!(one(&registry, "x").await.digest, second.digest);
    running.poll().await.unwrap();
    Instance::new(made(&first)).await.unwrap().poll().await.unwrap();
    std::fs::remove_file(dir.join("x.wasm")).unwrap();
    assert_eq!(registry.get("x").await.map(drop).unwrap_err().code, code::UNKNOWN_BACKEND);
    assert!(registry.list().await.iter().all(|backend| backend.name != "x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_turns_off_and_pins() {
    let room = Room::new();
    let guest = Guest::new().build();
    for name in ["off", "pinned", "wrong"] {
        put(&room.dir.join("plugins"), name, &guest);
    }
    let digest = crate::backend::cache::digest(&guest);
    let with = |off| {
        BTreeMap::from([
            ("off".to_owned(), entry(off, None)),
            ("pinned".to_owned(), entry(true, Some(digest.to_uppercase()))),
            ("wrong".to_owned(), entry(true, Some("00".repeat(32)))),
        ])
    };
    let registry = Registry::open(room.engine.clone(), &configuration(&room, with(false)));
    assert!(matches!(one(&registry, "off").await.state, State::Disabled));
    assert!(registry.get("off").await.map(drop).unwrap_err().hint.unwrap().contains("[backends.off]"));
    registry.get("pinned").await.unwrap();
    assert!(failure(&*one(&registry, "wrong").await).message.contains(&digest));
    registry.configure(&configuration(&room, with(true)));
    registry.get("off").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_of_http_are_there_but_trap() {
    let room = Room::new();
    let guest = Guest::new()
        .import(Some("wasi:http/types@0.2.12"), r#"(import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))"#)
        .import(None, r#"(import "wasi:http/types@0.2.12" "future-thing" (func $future (result i32)))"#)
        .import(None, r#"(import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))"#)
        .body("start", "(drop (call $fields)) (i32.const 3072)")
        .body("reply", "(call $block (call $future)) (i32.const 3072)")
        .build();
    let instance = room.instance(&guest).await;
    instance.poll().await.unwrap();
    let fault = instance.start(job()).await.unwrap_err();
    assert!(fault.code == code::BACKEND_TRAPPED && fault.message.contains("wasi:http/types@0.2.12#[constructor]fields"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_kept_and_what_was_planted_is_not_loaded() {
    let room = Room::new();
    let cache = room.dir.join("cache");
    let fresh = || {
        let options = EngineOptions { instances: 4, memory: MEMORY, cache_dir: Some(cache.clone()), call_wall: Duration::from_secs(5) };
        Engine::new(options).unwrap()
    };
    let guest = Guest::new().build();
    let digest = crate::backend::cache::digest(&guest);
    let file = room.dir.join("x.bin");
    std::fs::write(&file, &guest).unwrap();
    let load = async |source: &Utf8Path| {
        let engine = fresh();
        engine.code(&digest, Source::File(source.to_owned())).prepared(&engine).await.map(drop)
    };
    load(&file).await.unwrap();
    // Without its source it can only come from the cache.
    let nowhere = room.dir.join("nowhere");
    load(&nowhere).await.unwrap();
    let kept =
        cache.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).find(|path| path.extension() == Some("cwasm")).unwrap();
    let mut bytes = std::fs::read(&kept).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&kept, &bytes).unwrap();
    assert_eq!(load(&nowhere).await.unwrap_err().code, code::BACKEND_UNAVAILABLE);
    load(&file).await.unwrap();
    load(&nowhere).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_described_plugin_needs_no_code_to_be_listed_again() {
    let room = Room::with(|_| {});
    let cache = room.dir.join("cache");
    let guest = Guest::new().title("kept").build();
    put(&room.dir.join("plugins"), "x", &guest);
    let list = async || {
        let options = EngineOptions { instances: 4, memory: MEMORY, cache_dir: Some(cache.clone()), call_wall: Duration::from_secs(5) };
        let registry = Registry::open(Engine::new(options).unwrap(), &configuration(&room, BTreeMap::new()));
        one(&registry, "x").await.description.clone().unwrap().title
    };
    assert_eq!(list().await, "kept");
    // Were it asked again, it would be compiled and kept again.
    for entry in cache.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        if path.extension() == Some("cwasm") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(list().await, "kept");
    assert!(cache.read_dir_utf8().unwrap().all(|entry| entry.unwrap().path().extension() != Some("cwasm")));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_ask_at_once_compile_once() {
    let room = Room::new();
    let guest = Guest::new().title("once").build();
    let file = room.dir.join("once.bin");
    std::fs::write(&file, &guest).unwrap();
    let digest = crate::backend::cache::digest(&guest);
    let code = room.engine.code(&digest, Source::File(file));
    assert!(Arc::ptr_eq(&code, &room.engine.code(&digest, Source::File("elsewhere".into()))));
    let all = futures::future::join_all((0..20).map(|_| code.prepared(&room.engine))).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|pre| Arc::ptr_eq(pre.as_ref().unwrap(), first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_descriptions_are_what_the_components_say() {
    let room = Room::new();
    let registry = registry(&room);
    for bundled in falconer_bundle::BACKENDS {
        let backend = registry.get(bundled.name).await.unwrap();
        assert_eq!((backend.source.as_str(), backend.digest.as_str()), ("bundled", crate::backend::cache::digest(bundled.wasm).as_str()));
        let code = room.engine.code(bundled.digest, Source::Bundled(bundled.wasm));
        let said = crate::backend::describe::ask(&room.engine, bundled.name, &code).await.unwrap();
        assert_eq!(backend.description.as_ref().unwrap(), &said, "{}", bundled.name);
    }
}
