//! What every request says: who asks, of which node, and what is answered.

use std::ffi::CStr;

use rustix::io::Errno;

use super::deferral::Deferral;
use super::waiters::{Admission, Waiter};

/// What a file system answers: a value, or the errno the guest sees.
pub type Result<T> = std::result::Result<T, Errno>;

/// A node of the file system as the guest names it (FUSE `nodeid`).
pub type NodeId = u64;

/// An open file or directory as the guest names it (FUSE `fh`).
pub type Handle = u64;

/// The inode of the root of every file system (`FUSE_ROOT_ID`).
pub const ROOT: NodeId = 1;

/// Who asks: the credentials in the request's header. `u32::MAX` is nobody: the
/// guest does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Effective user ID of the calling task.
    pub uid: u32,
    /// Effective group ID of the calling task.
    pub gid: u32,
    /// Process ID of the calling task, 0 for the kernel itself.
    pub pid: u32,
    /// The one supplementary group that matters for this request
    /// (`FUSE_EXT_GROUPS`): the group of the parent directory, when the
    /// caller is a member of it.
    pub supplementary_gid: Option<u32>,
}

impl Caller {
    /// Whether the guest's root may be asking.
    #[must_use]
    pub fn may_be_root(&self) -> bool {
        self.uid == 0 || self.uid == u32::MAX
    }
}

/// What a new node is to be labelled with: an extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'s> {
    /// The attribute's name; it begins with `security.`.
    pub name: &'s CStr,
    /// Its value.
    pub value: &'s [u8],
}

/// What every request says, whatever it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'s> {
    /// Tells the request from all others under way.
    pub unique: u64,
    /// The node it is about: for an operation on a name, the directory the
    /// name is in.
    pub node: NodeId,
    /// Who asks.
    pub caller: Caller,
    /// How what it makes is to be labelled, if it makes something.
    pub label: Option<Label<'s>>,
    admission: Admission<'s>,
    may_wait: bool,
    deferral: Option<&'s Deferral>,
}

/// What a file system answers to a request that [must not
/// wait](Request::may_wait) and would have to, before it has done anything:
/// the request comes again when it may (`ERESTARTSYS`, which no guest sees). And
/// to one that was [deferred](Request::defer).
pub const WOULD_WAIT: Errno = Errno::from_raw_os_error(512);

impl<'s> Request<'s> {
    /// A request that waits with this `admission`, if it does.
    #[must_use]
    pub fn new(
        unique: u64,
        node: NodeId,
        caller: Caller,
        admission: impl Into<Admission<'s>>,
    ) -> Self {
        Self {
            unique,
            node,
            caller,
            label: None,
            admission: admission.into(),
            may_wait: true,
            deferral: None,
        }
    }

    /// The same request from who will have it served again when it is
    /// deferred.
    #[must_use]
    pub fn deferrable(self, deferral: &'s Deferral) -> Self {
        Self {
            deferral: Some(deferral),
            ..self
        }
    }

    /// The same request, for a node with a label.
    #[must_use]
    pub fn labelled(self, label: Option<Label<'s>>) -> Self {
        Self { label, ..self }
    }

    /// The same request from who keeps others waiting.
    #[must_use]
    pub fn in_a_hurry(self) -> Self {
        Self {
            may_wait: false,
            ..self
        }
    }

    /// Whether it may wait for somebody else. If not, and if that is known
    /// only while it is served, the answer is [`WOULD_WAIT`].
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Lets the request be interrupted, which an operation asks for before it
    /// waits for anything but its own work.
    pub fn waiter(&self) -> Result<Waiter<'s>> {
        self.admission.enter(self.unique)
    }

    /// Defers the request, for want of anything to [wait](Self::waiter) with,
    /// and says what to answer: [`WOULD_WAIT`], or why that cannot be.
    /// `EAGAIN` when as many are deferred as there may be, or when nobody
    /// would have it served again. `keep` is dropped with the answer, or when
    /// the request is deferred once more.
    #[must_use]
    pub fn defer(&self, keep: Box<dyn Send>) -> Errno {
        let Some(deferral) = self.deferral else {
            return Errno::AGAIN;
        };
        match self.admission.defer(self.unique, deferral, keep) {
            Ok(()) => WOULD_WAIT,
            Err(error) => error,
        }
    }

    /// Whether it was deferred before.
    #[must_use]
    pub fn was_deferred(&self) -> bool {
        self.deferral.is_some_and(Deferral::is_entered)
    }

    /// `EINTR` when it was deferred and has been interrupted since.
    pub fn go_on(&self) -> Result<()> {
        match self.deferral {
            Some(deferral) if deferral.is_interrupted() => Err(Errno::INTR),
            _ => Ok(()),
        }
    }

    /// Something changed that deferred requests may wait for.
    pub fn changed(&self) {
        self.admission.changed();
    }
}
