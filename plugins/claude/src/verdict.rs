//! What went wrong, as a code that a caller can act on.

use falconer_backend::{ExitStatus, Failure};

use crate::incoming::TurnResult;

const LOGIN_HINT: &str = "log in once by running `claude` and then `/login`, or grant a secret: ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN; `falconer check` shows which has a value";
const ROOT_HINT: &str = "run falconer as another user; or, where a container is the fence, say so by the grant [backends.claude.grants] env = { IS_SANDBOX = \"1\" }; or take another permission_mode";
/// Longest part of a message of the program that is kept.
const MAX_MESSAGE: usize = 2_000;

/// The failure that a result with `is_error` stands for.
pub fn of_result(result: &TurnResult) -> Failure {
    let said = said(result);
    if let Some(status) = result.api_error_status {
        return of_status(status, &said);
    }
    // What has a word of its own goes before words in a text: that of a wrong answer names its fields, such as `/login`.
    if let Some(failure) = of_reason(result, &said) {
        return failure;
    }
    let low = said.to_lowercase();
    if low.contains("not logged in") || low.contains("/login") || low.contains("invalid api key") {
        return Failure::new("auth_required", said).with_hint(LOGIN_HINT);
    }
    if low.contains("no conversation found with session id") {
        return Failure::new("session_not_found", said)
            .with_hint("start a new run; claude has no such session in its own history any more");
    }
    let unreachable =
        ["econnrefused", "enotfound", "econnreset", "etimedout", "eai_again", "connection error", "unable to connect", "timed out"];
    if result.api_error.as_deref() == Some("connection_failed") || unreachable.iter().any(|word| low.contains(word)) {
        return Failure::new("api_unreachable", said)
            .retryable()
            .with_hint("check the network, the proxy variables and ANTHROPIC_BASE_URL, and that they are granted");
    }
    match result.terminal_reason.as_deref().unwrap_or_default() {
        "api_error" => Failure::new("api_error", said).retryable().with_hint("run again, or continue the session"),
        reason if reason.starts_with("aborted_") => Failure::new("interrupted", "the turn was cut short"),
        _ => Failure::new("agent_error", said),
    }
}

/// A limit that ended the turn, as the program names it.
fn of_reason(result: &TurnResult, said: &str) -> Option<Failure> {
    Some(match (result.terminal_reason.as_deref().unwrap_or_default(), result.subtype.as_str()) {
        ("max_turns", _) | (_, "error_max_turns") => Failure::new("max_turns", said).with_hint("raise max_turns, or continue the session"),
        ("budget_exhausted", _) | (_, "error_max_budget_usd") => Failure::new("budget_exceeded", said).with_hint("raise max_budget_usd"),
        ("prompt_too_long", _) => Failure::new("prompt_too_long", said).with_hint("start a new session, or send less"),
        ("structured_output_retry_exhausted", _) | (_, "error_max_structured_output_retries") => Failure::new("output_invalid", said)
            .with_hint("say in the message what the answer is to hold, or make the output_schema simpler"),
        _ => return None,
    })
}

fn of_status(status: u16, said: &str) -> Failure {
    match status {
        401 => Failure::new("auth_failed", said).with_hint(LOGIN_HINT),
        403 => Failure::new("auth_failed", said).with_hint("the key or the account may not do this; see the message"),
        404 => Failure::new("model_not_found", said).with_hint("check the model's name and ANTHROPIC_BASE_URL"),
        429 => Failure::new("rate_limited", said).retryable().with_hint("wait, then run again or continue the session"),
        529 => Failure::new("overloaded", said).retryable().with_hint("wait, then run again or continue the session"),
        400..=499 => Failure::new("bad_request", said).with_hint("the API refused the request as it is; the message says why"),
        _ => Failure::new("api_error", said).retryable().with_hint("run again, or continue the session"),
    }
}

/// What the result says about its error, in one text.
fn said(result: &TurnResult) -> String {
    let text = match &result.result {
        Some(text) if !text.trim().is_empty() => text.clone(),
        _ if !result.errors.is_empty() => result.errors.join("; "),
        _ => format!("claude ended the turn with {}", if result.subtype.is_empty() { "an error" } else { &result.subtype }),
    };
    text[..text.floor_char_boundary(MAX_MESSAGE)].to_owned()
}

/// The failure of a program that ended, or closed its output, without a result for the turn in hand.
pub fn without_result(exit: Option<ExitStatus>, stderr: &str) -> Failure {
    let low = stderr.to_lowercase();
    let said = stderr[..stderr.floor_char_boundary(MAX_MESSAGE)].trim().to_owned();
    if low.contains("no conversation found with session id") {
        return Failure::new("session_not_found", said)
            .with_hint("start a new run; claude has no such session in its own history any more");
    }
    if low.contains("already in use") {
        return Failure::new("session_in_use", said);
    }
    if low.contains("not logged in") || low.contains("/login") {
        return Failure::new("auth_required", said).with_hint(LOGIN_HINT);
    }
    if low.contains("cannot be used with root") {
        return Failure::new("unsupported", "claude bypasses no permissions as root").with_hint(ROOT_HINT);
    }
    if low.contains("bubblewrap is required") {
        return Failure::new("unsupported", "scrub_env keeps keys from commands with bubblewrap, which is not installed")
            .with_hint("install it (Debian: apt-get install bubblewrap), or set scrub_env = false");
    }
    if low.contains("--json-schema") {
        return Failure::new("invalid_argument", said).with_hint("claude takes JSON Schema draft-07; change the output_schema");
    }
    let mut failure = match exit {
        Some(ExitStatus::Code(code)) if code < 128 => {
            Failure::new("agent_exited", format!("claude ended with exit code {code} and without a result"))
        }
        // The program turns TERM and HUP into 128 and the signal's number.
        Some(ExitStatus::Code(code)) => Failure::of_exit("claude", ExitStatus::Signalled(code - 128)),
        Some(status) => Failure::of_exit("claude", status),
        None => Failure::new("agent_exited", "claude closed its output without a result"),
    };
    if !said.is_empty() {
        failure.message = format!("{}: {said}", failure.message);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_statuses() {
        let code = |status| {
            let failure = of_result(&TurnResult { is_error: true, api_error_status: Some(status), ..TurnResult::default() });
            (failure.code, failure.retryable)
        };
        assert_eq!(code(400), ("bad_request".to_owned(), false));
        assert_eq!(code(401), ("auth_failed".to_owned(), false));
        assert_eq!(code(429), ("rate_limited".to_owned(), true));
        assert_eq!(code(500), ("api_error".to_owned(), true));
        assert_eq!(code(529), ("overloaded".to_owned(), true));
    }

    #[test]
    fn a_limit_is_told_by_its_name_whatever_the_text_holds() {
        let code = |subtype: &str, error: &str| {
            let errors = vec![error.to_owned()];
            of_result(&TurnResult { is_error: true, subtype: subtype.to_owned(), errors, ..TurnResult::default() }).code
        };
        let wrong =
            "Failed to provide valid structured output after 5 attempts: Output does not match required schema: /login: must be string";
        assert_eq!(code("error_max_structured_output_retries", wrong), "output_invalid");
        assert_eq!(code("error_max_turns", "the server timed out"), "max_turns");
        assert_eq!(code("error_during_execution", "Not logged in"), "auth_required");
    }

    #[test]
    fn an_end_without_a_result() {
        assert_eq!(without_result(Some(ExitStatus::Code(143)), "").code, "killed_by_signal");
        assert_eq!(without_result(Some(ExitStatus::Signalled(9)), "").code, "killed_by_signal");
        assert_eq!(without_result(Some(ExitStatus::Code(0)), "").code, "agent_exited");
        assert_eq!(without_result(None, "Error: Session ID x is already in use.").code, "session_in_use");
    }
}
