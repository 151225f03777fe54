//! What went wrong, as a code that a caller can act on.

use falconer_backend::{ExitStatus, Failure};
use serde_json::Value;

use crate::incoming::TurnError;

/// What to do where there is no login.
pub const LOGIN_HINT: &str = "run `codex login` once as this user, or grant a secret with an API key: CODEX_API_KEY or OPENAI_API_KEY; `falconer check` shows which has a value";
const KEY_HINT: &str =
    "give another key (CODEX_API_KEY or OPENAI_API_KEY), or run `codex login` again; `falconer check` shows what is granted";
const WAIT_HINT: &str = "wait, then run again or continue the session";
const HOME_HINT: &str = "make the directory, or grant CODEX_HOME (or HOME) with another value: it holds the login and the sessions";
/// Longest part of a message of the program that is kept.
const MAX_MESSAGE: usize = 2_000;

/// No login, and no key.
pub fn no_login() -> Failure {
    Failure::new("auth_required", "codex has no login, and no API key is granted").with_hint(LOGIN_HINT)
}

/// The failure that a turn ended with.
pub fn of_turn(error: &TurnError) -> Failure {
    let said = said(error);
    if let Some(status) = error.status {
        return of_status(status, said);
    }
    let retry = |code: &str, said: String| Failure::new(code, said).retryable().with_hint(WAIT_HINT);
    match error.kind.as_str() {
        "unauthorized" => Failure::new("auth_failed", said).with_hint(KEY_HINT),
        "rateLimitExceeded" | "usageLimitExceeded" | "flexUnavailable" => retry("rate_limited", said),
        "serverOverloaded" | "policyCapacityUnavailable" => retry("overloaded", said),
        "modelNotFound" => Failure::new("model_not_found", said).with_hint("check `model`, and the provider that `settings` name"),
        "contextWindowExceeded" => Failure::new("prompt_too_long", said).with_hint("start a new session, or send less"),
        "sessionBudgetExceeded" => Failure::new("max_tokens", said).with_hint("codex's own configuration sets this budget"),
        "badRequest" => Failure::new("bad_request", said),
        "httpConnectionFailed" => unreachable(said),
        "responseStreamConnectionFailed" | "responseStreamDisconnected" | "responseTooManyFailedAttempts" | "internalServerError" => {
            Failure::new("api_error", said).retryable()
        }
        _ => of_words(said),
    }
}

/// Where Codex names no kind, or `other`.
fn of_words(said: String) -> Failure {
    let low = said.to_lowercase();
    if low.contains("missing environment variable") || low.contains("not logged in") {
        return Failure::new("auth_required", said).with_hint(LOGIN_HINT);
    }
    if low.contains("refresh token") || low.contains("token has expired") || low.contains("log in again") || low.contains("sign in again") {
        return Failure::new("auth_failed", said).with_hint(KEY_HINT);
    }
    if low.contains("stream disconnected") || low.contains("network error") {
        return Failure::new("api_error", said).retryable();
    }
    if low.contains("connection failed") || low.contains("error sending request") {
        return unreachable(said);
    }
    Failure::new("agent_error", said)
}

fn of_status(status: u16, said: String) -> Failure {
    match status {
        401 => Failure::new("auth_failed", said).with_hint(KEY_HINT),
        403 => Failure::new("auth_failed", said).with_hint("the key or the account may not do this; see the message"),
        404 => Failure::new("model_not_found", said).with_hint("check `model`, and the provider's base_url"),
        429 => Failure::new("rate_limited", said).retryable().with_hint(WAIT_HINT),
        503 | 529 => Failure::new("overloaded", said).retryable().with_hint(WAIT_HINT),
        400..=499 => Failure::new("bad_request", said),
        _ => Failure::new("api_error", said).retryable(),
    }
}

fn unreachable(said: String) -> Failure {
    Failure::new("api_unreachable", said)
        .retryable()
        .with_hint("check the network, the proxy variables and the provider's base_url, and that they are granted")
}

/// What an error says, in one text. A refused request is the API's own JSON.
fn said(error: &TurnError) -> String {
    let mut text = error.message.clone();
    if let Ok(Value::Object(body)) = serde_json::from_str(&error.message)
        && let Some(message) = body.get("error").and_then(|error| error.get("message")).and_then(Value::as_str)
    {
        text = message.to_owned();
    }
    if let Some(details) = error.details.as_deref().filter(|details| !details.is_empty()) {
        text = format!("{text}: {details}");
    }
    if text.trim().is_empty() {
        text = "codex ended the turn with an error and no message".to_owned();
    }
    cut(&text)
}

/// A request that the API refused: Codex gives the answer's body and no kind.
fn is_refused(error: &TurnError) -> bool {
    let body: Option<Value> = serde_json::from_str(&error.message).ok();
    body.and_then(|body| Some(body.get("error")?.get("type")?.as_str()? == "invalid_request_error")).unwrap_or(false)
}

/// [`of_turn`] for an error that may be the body of a refused request.
pub fn of_error(error: &TurnError) -> Failure {
    if error.status.is_none() && is_refused(error) {
        return Failure::new("bad_request", said(error));
    }
    of_turn(error)
}

/// The failure of a request that opens a thread or a turn.
pub fn of_request(what: &str, message: &str) -> Failure {
    let said = cut(message);
    let low = message.to_lowercase();
    if low.contains("no rollout found") || low.contains("invalid session id") || low.contains("thread not found") {
        return Failure::new("session_not_found", said).with_hint("start a new run; codex has no such session in its own history any more");
    }
    if low.contains("mcp server") || low.contains("required mcp") {
        return Failure::new("mcp_server_failed", said)
            .with_hint("mend the server in mcp_catalog, set `required = false` for it, or run without it");
    }
    Failure::new("agent_error", format!("codex refused {what}: {said}"))
}

/// The failure of a program that ended, or closed its output, without the end of the turn in hand.
pub fn without_turn(exit: Option<ExitStatus>, stderr: &str) -> Failure {
    let said = cut(stderr.trim());
    let low = stderr.to_lowercase();
    if low.contains("codex_home") && (low.contains("does not exist") || low.contains("not a directory")) {
        return Failure::new("auth_required", said).with_hint(HOME_HINT);
    }
    if low.contains("error loading config") || low.contains("model_providers") || low.contains("invalid transport") {
        return Failure::new("invalid_config", said).with_hint("mend codex's own config.toml, or `settings` in [backends.codex]");
    }
    let mut failure = match exit {
        Some(ExitStatus::Code(code)) => {
            Failure::new("agent_exited", format!("codex ended with exit code {code} and without the end of its turn"))
        }
        Some(status) => Failure::of_exit("codex", status),
        None => Failure::new("agent_exited", "codex closed its output without the end of its turn"),
    };
    if !said.is_empty() {
        failure.message = format!("{}: {said}", failure.message);
    }
    failure
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_MESSAGE)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(kind: &str, status: Option<u16>, message: &str) -> (String, bool) {
        let failure = of_error(&TurnError { message: message.to_owned(), kind: kind.to_owned(), status, details: None });
        (failure.code, failure.retryable)
    }

    #[test]
    fn codes_of_errors() {
        let is = |code: &str, retryable| (code.to_owned(), retryable);
        assert_eq!(code("httpConnectionFailed", Some(401), "x"), is("auth_failed", false));
        assert_eq!(code("responseTooManyFailedAttempts", Some(429), "x"), is("rate_limited", true));
        assert_eq!(code("serverOverloaded", None, "x"), is("overloaded", true));
        assert_eq!(code("httpConnectionFailed", None, "x"), is("api_unreachable", true));
        assert_eq!(code("modelNotFound", None, "x"), is("model_not_found", false));
        assert_eq!(code("contextWindowExceeded", None, "x"), is("prompt_too_long", false));
        assert_eq!(code("internalServerError", None, "x"), is("api_error", true));
        assert_eq!(code("other", None, "stream disconnected before completion: Transport error: network error"), is("api_error", true));
        assert_eq!(code("other", None, "Missing environment variable: `X`."), is("auth_required", false));
        assert_eq!(code("other", None, r#"{"error":{"message":"no","type":"invalid_request_error"}}"#), is("bad_request", false));
        assert_eq!(code("later", None, "x"), is("agent_error", false));
    }

    #[test]
    fn an_end_without_a_turn() {
        assert_eq!(without_turn(Some(ExitStatus::Signalled(9)), "").code, "killed_by_signal");
        assert_eq!(without_turn(Some(ExitStatus::Code(0)), "").code, "agent_exited");
        let home = without_turn(Some(ExitStatus::Code(1)), "Error: CODEX_HOME points to \"/x\", but that path does not exist");
        assert_eq!(home.code, "auth_required");
        assert_eq!(of_request("thread/resume", "no rollout found for thread id x").code, "session_not_found");
    }
}
