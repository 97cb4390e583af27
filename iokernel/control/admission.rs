//! Whose runtimes may attach, by what the kernel says about the peer.

use std::os::fd::BorrowedFd;

use super::error::RegistrationError;
use super::socket::{Peer, peer_groups};

/// Users and groups that are let in. A runtime needs to be of one of either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Effective user ids; `None`: none is named.
    pub uids: Option<Vec<u32>>,
    /// Groups, of which the peer's effective or a supplementary one counts.
    pub gids: Option<Vec<u32>>,
}

impl Admission {
    /// True if everybody may attach, as upstream.
    pub fn is_open(&self) -> bool {
        self.uids.is_none() && self.gids.is_none()
    }

    /// True if somebody is named who is subject to permissions and not user `own`: anybody
    /// but root.
    pub fn names_others(&self, own: u32) -> bool {
        let other = |&uid: &u32| uid != own && uid != 0;
        self.uids.as_ref().is_some_and(|u| u.iter().any(other)) || self.gids.is_some()
    }

    /// The only users whose runtimes may attach, where that is known.
    pub fn users(&self) -> Option<&[u32]> {
        self.uids.as_deref().filter(|_| self.gids.is_none())
    }

    /// Lets the peer of a connection in, or not.
    ///
    /// # Errors
    /// [`RegistrationError::NotAllowed`], or its groups cannot be found out.
    pub(super) fn check(
        &self,
        who: Peer,
        connection: BorrowedFd<'_>,
    ) -> Result<(), RegistrationError> {
        let user = |uids: &Vec<u32>| uids.contains(&who.uid);
        if self.is_open() || self.uids.as_ref().is_some_and(user) {
            return Ok(());
        }
        if let Some(gids) = &self.gids {
            let groups = peer_groups(connection)
                .map_err(|e| RegistrationError::Os("asking for its groups", e))?;
            if groups.iter().any(|group| gids.contains(group)) {
                return Ok(());
            }
        }
        Err(RegistrationError::NotAllowed(who.uid))
    }
}
