//! Requests in descriptor chains, to the session: the file system through which a
//! guest's init gets its plan and says how its command ended.

use crate::chain::requests;
use crate::guest::{Guest, OnlyGuest};

static GUEST: OnlyGuest = OnlyGuest::new(Guest::with_session);

/// Serves the requests in `data`.
pub fn run(data: &[u8]) {
    GUEST.run(data, requests);
}
