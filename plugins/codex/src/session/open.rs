//! From the start to the first turn: greeting, configuration, login, thread.

use std::time::Duration;

use falconer_backend::{Effects, Event, Failure};
use serde_json::{Value, json};

use super::{Purpose, Session, Stage};
use crate::incoming::text;
use crate::order::{Login, OwnConfig, Thread};
use crate::{map, outgoing, verdict};

impl Session {
    /// Greets the program, and asks at once what must be known before a thread is opened: it answers in order.
    pub(super) fn greet(&mut self, out: &mut Effects) {
        let hello = json!({
            "clientInfo": { "name": "falconer", "title": "Falconer", "version": env!("CARGO_PKG_VERSION") },
            "capabilities": { "experimentalApi": true },
        });
        self.request("initialize", &hello, Purpose::Greet, out);
        out.lines.push(outgoing::initialized());
        self.request("config/read", &json!({ "includeLayers": false, "cwd": self.order.cwd }), Purpose::OwnConfig, out);
        self.request("account/read", &json!({ "refreshToken": false }), Purpose::Account, out);
    }

    pub(super) fn greeted(&mut self, result: Result<Value, String>, now: Duration, out: &mut Effects) {
        match result {
            // `falconer/0.169.0 (Debian …) …`: our name, and its version.
            Ok(hello) => {
                let agent = text(&hello, "userAgent").unwrap_or_default();
                let version = agent.split_once('/').and_then(|(_, rest)| rest.split_whitespace().next());
                self.version = version.unwrap_or_default().to_owned();
            }
            Err(message) => self.fail(verdict::of_request("to begin", &message), now, out),
        }
    }

    pub(super) fn knows_config(&mut self, result: Result<Value, String>, now: Duration, out: &mut Effects) {
        match result {
            Ok(answer) => {
                let config = answer.get("config").unwrap_or(&Value::Null);
                let servers = config.get("mcp_servers").and_then(Value::as_object);
                let servers = servers.map(|servers| servers.keys().cloned().collect()).unwrap_or_default();
                if let Stage::Greeting { own, .. } = &mut self.stage {
                    *own = Some(OwnConfig { servers, provider: text(config, "model_provider") });
                }
                self.open_thread(now, out);
            }
            Err(message) => self.fail(verdict::of_request("to tell its configuration", &message), now, out),
        }
    }

    pub(super) fn knows_login(&mut self, result: Result<Value, String>, now: Duration, out: &mut Effects) {
        let found = match result {
            Ok(answer) if answer.get("account").is_some_and(|account| !account.is_null()) => Login::Present,
            Ok(answer) if answer.get("requiresOpenaiAuth").and_then(Value::as_bool).unwrap_or(false) => Login::Missing,
            // Where it cannot tell, the turn will.
            Ok(_) | Err(_) => Login::NotNeeded,
        };
        if let Stage::Greeting { login, .. } = &mut self.stage {
            *login = Some(found);
        }
        self.open_thread(now, out);
    }

    fn open_thread(&mut self, now: Duration, out: &mut Effects) {
        let Stage::Greeting { own: Some(own), login: Some(login) } = &self.stage else { return };
        let opening = self.order.provider(own, *login).and_then(|provider| self.order.open(own, &provider));
        match opening {
            Ok((method, params)) => {
                self.stage = Stage::Opening;
                self.request(method, &params, Purpose::Open, out);
            }
            Err(failure) => self.fail(failure, now, out),
        }
    }

    pub(super) fn opened(&mut self, result: Result<Value, String>, now: Duration, out: &mut Effects) {
        if !matches!(self.stage, Stage::Opening) {
            return;
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(message) => return self.fail(verdict::of_request("to open a thread", &message), now, out),
        };
        let Some(id) = answer.get("thread").and_then(|thread| text(thread, "id")) else {
            return self.fail(Failure::new("agent_error", "codex opened a thread without an id"), now, out);
        };
        let mode = answer.get("collaborationMode").unwrap_or(&Value::Null);
        let planning = text(mode, "mode").or_else(|| mode.as_str().map(str::to_owned)).as_deref() == Some("plan");
        let thread = Thread { id, model: text(&answer, "model").unwrap_or_default(), planning };
        self.mapper.begin(&thread.id);
        out.events.push(Event::SessionStarted(thread.id.clone()));
        let told = json!({
            "model": thread.model,
            "provider": text(&answer, "modelProvider"),
            "approval_policy": answer.get("approvalPolicy"),
            "sandbox": answer.get("sandbox"),
            "version": self.version,
            "cwd": text(&answer, "cwd"),
        });
        map::push_native(&mut out.events, "init", &told);
        self.thread = Some(thread);
        self.first_turn(out);
    }

    /// The run cannot go on: ends the program.
    pub(super) fn fail(&mut self, failure: Failure, now: Duration, out: &mut Effects) {
        self.failure.get_or_insert(failure);
        self.close(now, out);
    }
}
