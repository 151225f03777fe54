//! How much is asked, and what commands may touch, in the program's own words.

use serde::Deserialize;

/// `permission_mode`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every command and every change of a file is asked.
    #[default]
    Ask,
    /// Only what the sandbox does not allow is asked.
    AcceptEdits,
    /// Nothing is changed; the answer is a plan.
    Plan,
    /// What would be asked is refused.
    NeverAskDeny,
    /// Nothing is asked.
    Bypass,
}

/// `sandbox`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    ReadOnly,
    WorkspaceWrite,
    FullAccess,
}

impl Mode {
    /// `approvalPolicy` of a thread.
    pub const fn approval(self) -> &'static str {
        match self {
            Self::Ask => "untrusted",
            Self::AcceptEdits => "on-request",
            Self::Plan | Self::NeverAskDeny | Self::Bypass => "never",
        }
    }

    /// The sandbox, where the config names this one or none.
    pub fn sandbox(self, chosen: Option<Sandbox>) -> Sandbox {
        match self {
            Self::Plan => Sandbox::ReadOnly,
            Self::Bypass => chosen.unwrap_or(Sandbox::FullAccess),
            Self::Ask | Self::AcceptEdits | Self::NeverAskDeny => chosen.unwrap_or(Sandbox::WorkspaceWrite),
        }
    }

    /// Whether the program's questions about permissions go to a person. Where they do not, the program asks none by itself;
    /// one that comes all the same is refused.
    pub const fn asks(self) -> bool {
        matches!(self, Self::Ask | Self::AcceptEdits)
    }

    /// Whether the agent's own questions, and those of its MCP servers, go to a person.
    pub const fn answers(self) -> bool {
        !matches!(self, Self::NeverAskDeny)
    }
}

impl Sandbox {
    /// `sandbox` of a thread.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::FullAccess => "danger-full-access",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_words() {
        let words = |mode: Mode, chosen| (mode.approval(), mode.sandbox(chosen).word());
        assert_eq!(words(Mode::Ask, None), ("untrusted", "workspace-write"));
        assert_eq!(words(Mode::AcceptEdits, Some(Sandbox::ReadOnly)), ("on-request", "read-only"));
        assert_eq!(words(Mode::Plan, Some(Sandbox::FullAccess)), ("never", "read-only"));
        assert_eq!(words(Mode::NeverAskDeny, None), ("never", "workspace-write"));
        assert_eq!(words(Mode::Bypass, None), ("never", "danger-full-access"));
        assert_eq!(words(Mode::Bypass, Some(Sandbox::WorkspaceWrite)), ("never", "workspace-write"));
    }
}
