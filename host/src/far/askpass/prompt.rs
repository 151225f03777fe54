//! What ssh's prompts ask for. Only what is exactly as ssh writes it is recognised (OpenSSH 8.5 to 10: sshconnect2.c).

use camino::Utf8PathBuf;

use crate::config::is_user;
use crate::policy::inventory::Host;

/// So much of a file's name stands in a prompt (`%.100s`).
const FILE_SHOWN: usize = 100;

/// One login on the way, and the names of its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The name of the target: what its ssh is given behind `--`.
    pub name: String,
    /// What its ssh calls it: its HostKeyAlias.
    pub known_as: String,
    /// Who logs in; none: whoever ssh says.
    pub user: Option<String>,
    /// The secret that is the login's password.
    pub password: Option<String>,
    /// The secret that opens the key files.
    pub passphrase: Option<String>,
    /// The key files, as they stand in ssh's configuration file (unquoted, tokens filled in).
    pub identity: Vec<Utf8PathBuf>,
}

impl Hop {
    /// That of a target.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        Self {
            name: host.target.name.clone(),
            known_as: host.known_as(),
            user: host.user.clone(),
            password: host.password.clone(),
            passphrase: host.passphrase.clone(),
            identity: host.identity.clone(),
        }
    }

    /// Whether anything could ever be answered.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        self.password.is_some() || self.passphrase.is_some()
    }

    /// The secret for which this hop's ssh asks with this prompt; or why none is meant.
    pub(super) fn secret(&self, prompt: &str) -> Result<&str, &'static str> {
        if let Some(shown) = prompt.strip_prefix("Enter passphrase for key '").and_then(|rest| rest.strip_suffix("': ")) {
            let meant = |file: &Utf8PathBuf| {
                let file = file.as_str();
                file == shown || file.as_bytes().get(..FILE_SHOWN) == Some(shown.as_bytes())
            };
            return match &self.passphrase {
                None => Err("the target has no `passphrase`"),
                Some(_) if !self.identity.iter().any(meant) => Err("this key file is none of the target's"),
                Some(secret) => Ok(secret),
            };
        }
        if self.is_password(prompt) {
            return self.password.as_deref().ok_or("the target has no `password`");
        }
        Err("it is no question for a password of this login, or a passphrase")
    }

    /// The method `password`, and the one question of `keyboard-interactive` that means the same (PAM's pam_unix).
    fn is_password(&self, prompt: &str) -> bool {
        // As ssh has it, which makes a HostKeyAlias lower case.
        let at = format!("@{}", self.known_as.to_ascii_lowercase());
        let login = prompt.strip_suffix("'s password: ").or_else(|| {
            let rest = prompt.strip_prefix('(')?;
            rest.strip_suffix(") Password: ").or_else(|| rest.strip_suffix(") Password:"))
        });
        let user = login.and_then(|login| login.strip_suffix(at.as_str()));
        match (user, &self.user) {
            (Some(asked), Some(user)) => asked == user,
            (Some(asked), None) => is_user(asked),
            (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop() -> Hop {
        Hop {
            name: "web".into(),
            known_as: "[Web.example]:2222".into(),
            user: Some("deploy".into()),
            password: Some("pw".into()),
            passphrase: Some("pass".into()),
            identity: vec!["/k/id".into(), format!("/{}", "x".repeat(150)).into()],
        }
    }

    #[test]
    fn the_prompts_of_ssh_are_recognised() {
        for (prompt, secret) in [
            ("deploy@[web.example]:2222's password: ", "pw"),
            ("(deploy@[web.example]:2222) Password: ", "pw"),
            ("(deploy@[web.example]:2222) Password:", "pw"),
            ("Enter passphrase for key '/k/id': ", "pass"),
            (&format!("Enter passphrase for key '/{}': ", "x".repeat(99)), "pass"),
            (&format!("Enter passphrase for key '/{}': ", "x".repeat(150)), "pass"),
        ] {
            assert_eq!(hop().secret(prompt), Ok(secret), "{prompt}");
        }
        let anyone = Hop { user: None, ..hop() };
        assert_eq!(anyone.secret("me@[web.example]:2222's password: "), Ok("pw"));
    }

    #[test]
    fn everything_else_is_not() {
        for prompt in [
            "",
            "root@[web.example]:2222's password: ",
            "deploy@web's password: ",
            "deploy@[web.example]:2222's password:",
            "deploy@[web.example]:2222's old password: ",
            "Enter deploy@[web.example]:2222's old password: ",
            "x deploy@[web.example]:2222's password: ",
            "(deploy@[web.example]:2222) Verification code: ",
            "(deploy@[web.example]:2222) New password: ",
            "(deploy@[web.example]:2222) (deploy@[web.example]:2222) Password: ",
            "(root@[web.example]:2222) Password: ",
            "Password: ",
            "Enter passphrase for key '/k/other': ",
            "Enter passphrase for key '/k/id'",
            "Enter passphrase for /k/id: ",
            "Enter PIN for ED25519-SK key /k/id: ",
            "Enter PIN for 'token': ",
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "The authenticity of host 'web (203.0.113.7)' can't be established.\nAre you sure you want to continue connecting (yes/no)? ",
            "Please type 'yes', 'no' or the fingerprint: ",
            "Allow forwarding? ",
        ] {
            assert!(hop().secret(prompt).is_err(), "{prompt}");
        }
        let short = format!("Enter passphrase for key '/{}': ", "x".repeat(98));
        assert!(hop().secret(&short).is_err(), "cut where ssh does not cut");
        let anyone = Hop { user: None, ..hop() };
        assert!(anyone.secret("-x y@[web.example]:2222's password: ").is_err());
        assert_eq!(Hop { password: None, ..hop() }.secret("deploy@[web.example]:2222's password: "), Err("the target has no `password`"));
        assert!(Hop { passphrase: None, ..hop() }.secret("Enter passphrase for key '/k/id': ").is_err());
    }
}
