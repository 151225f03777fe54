//! Small guests for tests: a core module in text, wrapped into a component of the contract's world.
//!
//! Every export has a body that answers well (start: ok; poll: pending without a time; describe: a title and the
//! schema `{}`); a test replaces the one it is about.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const CONTRACT: &str = include_str!("../../../../wit/backend.wit");

/// The pieces of WASI that guests here import.
const IO: &str = "package wasi:io@0.2.12;
interface error { resource error; }
interface poll { resource pollable { block: func(); } }
interface streams {
  use error.{error};
  variant stream-error { last-operation-failed(error), closed }
  resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
}";
const CLOCKS: &str = "package wasi:clocks@0.2.12;
interface monotonic-clock { use wasi:io/poll@0.2.12.{pollable}; subscribe-duration: func(when: u64) -> pollable; }";
const CLI: &str = "package wasi:cli@0.2.12;
interface stderr { use wasi:io/streams@0.2.12.{output-stream}; get-stderr: func() -> output-stream; }
interface exit { exit: func(status: result); }";
const HTTP: &str = "package wasi:http@0.2.12;
interface types { use wasi:io/poll@0.2.12.{pollable}; resource fields { constructor(); } future-thing: func() -> pollable; }";
const LATER: &str = "package wasi:clocks@0.3.0;
interface system-clock { now: func() -> u64; }";

/// A guest in the making.
#[derive(Default)]
pub struct Guest {
    imports: String,
    globals: String,
    wit: Vec<String>,
    bodies: Vec<(&'static str, String)>,
    title: Option<String>,
    schema: Option<String>,
}

impl Guest {
    pub fn new() -> Self {
        Self::default()
    }

    /// The body of an export: `start`, `poll`, `reply`, `cancel`, `describe` or `plan`. It leaves an i32.
    pub fn body(mut self, export: &'static str, body: &str) -> Self {
        self.bodies.push((export, body.to_owned()));
        self
    }

    /// A core import, and the interface that it belongs to (none: of the contract itself).
    pub fn import(mut self, interface: Option<&str>, core: &str) -> Self {
        self.imports.push_str(core);
        self.wit.extend(interface.map(|interface| format!("import {interface};")));
        self
    }

    /// Module fields: globals, functions, data.
    pub fn field(mut self, field: &str) -> Self {
        self.globals.push_str(field);
        self
    }

    pub fn title(mut self, title: &str) -> Self {
        self.title = Some(title.to_owned());
        self
    }

    pub fn schema(mut self, schema: &str) -> Self {
        self.schema = Some(schema.to_owned());
        self
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        self.build_for(CONTRACT)
    }

    /// The component, for a contract of another version.
    pub fn build_version(&self, version: &str) -> Vec<u8> {
        let contract = CONTRACT.replace("falconer:backend@0.1.0", &format!("falconer:backend@{version}"));
        self.build_with(&contract, version)
    }

    fn build_for(&self, contract: &str) -> Vec<u8> {
        self.build_with(contract, "0.1.0")
    }

    fn build_with(&self, contract: &str, version: &str) -> Vec<u8> {
        let body = |export: &str, default: &str| {
            self.bodies.iter().rev().find(|(name, _)| *name == export).map_or_else(|| default.to_owned(), |(_, body)| body.clone())
        };
        let title = self.title.as_deref().unwrap_or("a guest");
        let schema = self.schema.as_deref().unwrap_or("{}");
        let text = |at: u32, text: &str| format!("(data (i32.const {at}) {:?})", text.replace('"', "\\22")).replace("\\\\22", "\\22");
        let word = |at: u32, number: usize| format!("(i32.store (i32.const {at}) (i32.const {number}))");
        let describe = format!(
            "{}{}{}{}{}{}{}{} (i32.const 512)",
            word(512, 1024),
            word(516, title.len()),
            word(520, 1024),
            word(524, 1),
            word(528, 1024),
            word(532, 1),
            word(540, 2048),
            word(544, schema.len()),
        );
        let x = format!("falconer:backend/adapter@{version}#");
        let wat = format!(
            r#"(module
  {imports}
  (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 65536))
  (global $count (mut i32) (i32.const 0))
  {title_data} {schema_data}
  ;; a step at 256: no events, no checkpoint, pending(none)
  (data (i32.const 276) "\01")
  {fields}
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "{x}describe") (result i32) {describe})
  (func (export "{x}plan") (param i32) (result i32) {plan})
  (func (export "{x}start") (param i32) (result i32) {start})
  (func $poll (export "{x}poll") (result i32) {poll})
  (func (export "{x}reply") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {reply})
  (func (export "{x}cancel") (param i32 i32 i32) (result i32) {cancel}))"#,
            imports = self.imports,
            fields = self.globals,
            title_data = text(1024, title),
            schema_data = text(2048, schema),
            describe = body("describe", &describe),
            plan = body("plan", "(i32.const 3072)"),
            start = body("start", "(i32.const 3072)"),
            poll = body("poll", "(i32.const 256)"),
            reply = body("reply", "(i32.const 3072)"),
            cancel = body("cancel", "(i32.const 3072)"),
        );
        let mut module = wat::parse_str(&wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));
        let mut resolve = Resolve::default();
        let later = self.wit.iter().any(|import| import.contains("@0.3"));
        for (name, package) in [("io", IO), ("clocks", if later { LATER } else { CLOCKS }), ("cli", CLI), ("http", HTTP)] {
            resolve.push_str(name, package).unwrap();
        }
        resolve.push_str("contract", contract).unwrap();
        let world = format!("package test:guest; world guest {{ include falconer:backend/backend@{version}; {} }}", self.wit.concat());
        let package = resolve.push_str("world", &world).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
    }

    /// Waits inside WASI for so many nanoseconds.
    pub fn sleeping(export: &'static str, nanos: u64, then: &str) -> Self {
        Self::new()
            .import(
                Some("wasi:clocks/monotonic-clock@0.2.12"),
                r#"(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $subscribe (param i64) (result i32)))"#,
            )
            .import(None, r#"(import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))"#)
            .body(export, &format!("(call $block (call $subscribe (i64.const {nanos}))) {then}"))
    }

    /// Writes a text to stderr.
    pub fn saying(export: &'static str, text: &str, then: &str) -> Self {
        Self::new()
            .import(Some("wasi:cli/stderr@0.2.12"), r#"(import "wasi:cli/stderr@0.2.12" "get-stderr" (func $stderr (result i32)))"#)
            .import(
                None,
                r#"(import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))"#,
            )
            .field(&format!("(data (i32.const 8192) {text:?})"))
            .body(export, &format!("(call $write (call $stderr) (i32.const 8192) (i32.const {}) (i32.const 4096)) {then}", text.len()))
    }
}

/// Computes for ever.
pub const SPIN: &str = "(loop $again (br $again)) unreachable";
