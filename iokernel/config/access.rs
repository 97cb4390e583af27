//! Who may attach, who may map the packets, and what the daemon keeps: in lines for
//! people, and where the one makes the other useless.

use std::fmt::Write as _;

use super::Config;
use crate::control::Admission;
use crate::privileges::capability_names;

/// All permissions, of others.
const OTHERS: u32 = 0o007;
/// All permissions, of the segment's group.
const GROUP: u32 = 0o070;

impl Config {
    /// Notes where those who are let in and those who may map the segment differ.
    pub(super) fn note_segment(&mut self) {
        if self.admission.is_open() {
            return;
        }
        let (uid, mode) = (rustix::process::geteuid().as_raw(), self.shm_mode);
        if mode & OTHERS != 0 {
            self.notes.push(format!(
                "--allow-uid and --allow-gid keep nobody from mapping everybody's packets (mode {mode:04o}): --shm-gid GID lets in one group"
            ));
        }
        if self.admission.names_others(uid) && !self.opens_segment() {
            self.notes.push(format!(
                "of those that --allow-uid and --allow-gid let in, none but root and iokerneld's own user can attach: runtimes ask for all permissions, and mode {mode:04o} has a 7 neither for others nor for the group; --shm-gid GID gives it to a group of theirs"
            ));
        }
    }

    /// True if others than the segment's owner may map it as runtimes do.
    fn opens_segment(&self) -> bool {
        let all = |digit| self.shm_mode & digit == digit;
        all(OTHERS) || all(GROUP)
    }

    /// Who may attach and map, how much one may keep, and what the daemon gives up: a line
    /// for each flag.
    pub fn access_lines(&self) -> String {
        let Admission { uids, gids } = &self.admission;
        let unnamed = if self.admission.is_open() {
            "anybody's"
        } else {
            "none"
        };
        let ids = |ids: &Option<Vec<u32>>| {
            let numbers = |ids: &Vec<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>();
            let list = ids.as_ref().map(|ids| numbers(ids).join(","));
            list.unwrap_or_else(|| unnamed.to_owned())
        };
        let group = self.shm_gid.map(|gid| gid.to_string());
        let group = group.unwrap_or_else(|| "iokerneld's own".to_owned());
        let forbidden = self.seccomp.unwrap_or_default();
        let mut text = String::new();
        for (flag, value) in [
            ("shm-gid", group),
            ("allow-uid", ids(uids)),
            ("allow-gid", ids(gids)),
            ("lent-max", format!("{} % of all buffers", self.lent_max)),
            (
                "seccomp",
                format!("system calls beyond the list {forbidden}"),
            ),
            ("keep-caps", capability_names(self.keep_caps)),
        ] {
            writeln!(text, "{flag}: {value}").expect("a String takes all");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(admission: Admission, shm_mode: u32) -> Vec<String> {
        let mut config = Config {
            admission,
            shm_mode,
            ..Config::default()
        };
        config.note_segment();
        config.notes
    }

    /// Neither root nor whoever runs this.
    fn somebody() -> u32 {
        rustix::process::geteuid().as_raw() + 1
    }

    #[test]
    fn a_mode_that_keeps_out_who_is_let_in_is_noted() {
        let user = || Admission {
            uids: Some(vec![somebody()]),
            gids: None,
        };
        let group = || Admission {
            uids: None,
            gids: Some(vec![1000]),
        };
        for admission in [user, group] {
            for mode in [0o700, 0o755, 0o766, 0o600] {
                let notes = noted(admission(), mode);
                let said = |n: &&String| n.contains("can attach");
                let found: Vec<_> = notes.iter().filter(said).collect();
                assert_eq!(found.len(), 1, "{mode:o}: {notes:?}");
                assert!(found[0].contains(&format!("mode {mode:04o}")), "{found:?}");
                assert!(!found[0].contains('\n'), "{found:?}");
            }
            for mode in [0o770, 0o777, 0o707] {
                let notes = noted(admission(), mode);
                assert!(!notes.iter().any(|n| n.contains("can attach")), "{notes:?}");
            }
        }
    }

    #[test]
    fn a_closed_mode_is_right_for_its_own_user() {
        let own = Admission {
            uids: Some(vec![0, rustix::process::geteuid().as_raw()]),
            gids: None,
        };
        assert_eq!(noted(own, 0o700), Vec::<String>::new());
        assert_eq!(noted(Admission::default(), 0o700), Vec::<String>::new());
    }
}
