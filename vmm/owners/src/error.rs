//! Why owners cannot be as the user wants them, and how to mend it.

use std::io;
use std::path::PathBuf;

use vmm_options::share::IdRange;

/// Why a share cannot have its owners.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // Each says itself what it is.
pub enum Error {
    #[error(
        "{file} has no line for {user}, so owners=map has nobody to map the guest's users to: have \
         root add one (usermod --add-sub{kind}s 100000-165535 {user}), or give {kind}-map="
    )]
    NothingDelegated {
        file: &'static str,
        kind: &'static str,
        user: String,
    },
    #[error("cannot read {file}, in which it says whom the guest's users may be")]
    Delegation {
        file: &'static str,
        source: io::Error,
    },
    #[error(
        "the ranges of {user} in {file} have {id} in them, who is the user: give {kind}-map= to \
         leave that out"
    )]
    DelegatedOneself {
        file: &'static str,
        kind: &'static str,
        user: String,
        id: u32,
    },
    #[error(
        "{kind}-map= leaves out {id}, who runs this and owns what is there: add a range such as \
         0:{id}:1"
    )]
    WithoutOneself { kind: &'static str, id: u32 },
    #[error("{kind}-map={range} is beyond what is delegated to {user}: {delegated}; see {file}")]
    Beyond {
        kind: &'static str,
        range: IdRange,
        user: String,
        delegated: String,
        file: &'static str,
    },
    #[error("owners=map needs {program}: install Debian's package uidmap, or use owners=xattr")]
    NoProgram { program: &'static str },
    #[error("cannot run {program}")]
    Program {
        program: &'static str,
        source: io::Error,
    },
    #[error("{program} refuses the map: {said}")]
    Refused { program: &'static str, said: String },
    #[error(
        "this host refuses user namespaces, which owners=map needs without root: allow them \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone), or use owners=xattr"
    )]
    NoNamespace(#[source] io::Error),
    #[error(
        "this host refuses user namespaces, without which root of the guest may not do everything to \
         the user's files in {}, as owners=user has it: allow them (sysctl \
         user.max_user_namespaces, kernel.unprivileged_userns_clone), or leave owners= out to do \
         without", path.display()
    )]
    AskedForUser { path: PathBuf, source: io::Error },
    #[error(
        "root of the guest may do to the files of shares only what the user may, so read none of \
         mode 000 and set no capabilities, because this host refuses user namespaces (sysctl \
         user.max_user_namespaces, kernel.unprivileged_userns_clone)"
    )]
    Unprivileged(#[source] io::Error),
    #[error("cannot map users and groups")]
    Map(#[source] io::Error),
    #[error(
        "without root all shares have one map, and those of {} and {} differ: give them the same",
        one.display(), other.display()
    )]
    TwoMaps { one: PathBuf, other: PathBuf },
    #[error(
        "without root the owners of {} cannot be the host's while those of {} are mapped: use \
         owners=map or owners=user for it",
        host.display(), mapped.display()
    )]
    HostBesideMap { host: PathBuf, mapped: PathBuf },
    #[error(
        "owners below {} cannot be mapped: root needs CAP_SYS_ADMIN, Linux 5.12, and a file system \
         that can do it, such as ext4, xfs, btrfs and, from 6.3 on, tmpfs; use owners=xattr",
        path.display()
    )]
    Mount { path: PathBuf, source: io::Error },
}
