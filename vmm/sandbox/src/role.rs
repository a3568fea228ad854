//! What threads do.

/// What a thread does, and so what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Serves requests of a share: a request queue, the hiprio queue, the pool,
    /// what waits, and what starts these. `writes`: they may change it.
    Share {
        /// Not of a share that is only read.
        writes: bool,
    },
    /// Serves requests of the session, or starts what does.
    Session,
    /// Runs a processor of the guest.
    Vcpu,
    /// Looks after the windows of `dax=`.
    Windows,
    /// Serves gdb.
    Debugger,
    /// The main thread once the guest runs, and what takes the machine down.
    Main,
}

impl Role {
    /// Every one there is.
    pub const ALL: [Self; 7] = [
        Self::Share { writes: true },
        Self::Share { writes: false },
        Self::Session,
        Self::Vcpu,
        Self::Windows,
        Self::Debugger,
        Self::Main,
    ];
}
