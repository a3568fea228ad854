//! Every option of a share, once: what is read, refused and explained, in the
//! command line's help, in the README and in `--dry-run`, comes from here.

mod device;
mod owners;

use devices::passthrough::{CachePolicy, Config};

use super::option::{Choice, Exclusion, Need, ShareOption, Takes};
use super::tag;
use super::value::{mount_point, wrong};
use crate::size::Size;

/// The options, in the order in which they are explained.
pub(crate) const OPTIONS: &[ShareOption] = &[
    ShareOption {
        name: "tag",
        takes: Takes::Value {
            placeholder: "NAME",
            example: "NAME",
            set: |share, value| {
                share.tag = Some(tag::check(value)?);
                Ok(())
            },
        },
        help: "the virtio-fs tag, at most 36 bytes",
        default: "the directory's name",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: None,
    },
    ShareOption {
        name: "at",
        takes: Takes::Value {
            placeholder: "PATH",
            example: "/mnt/dir",
            set: |share, value| {
                share.at = Some(mount_point(value)?);
                Ok(())
            },
        },
        help: "where the guest mounts it",
        default: "`/mnt/TAG`",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: None,
    },
    ShareOption {
        name: "ro",
        takes: Takes::Nothing(|share| share.service.server.read_only = true),
        help: "refuse changes, in the server; on with `--root`",
        default: "off",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: Some(("read_only", |service| service.server.read_only.into())),
    },
    ShareOption {
        name: "rw",
        takes: Takes::Nothing(|share| share.service.server.read_only = false),
        help: "allow changes; the default of `--share`",
        default: "",
        excludes: &[Exclusion {
            other: "ro",
            mend: "leave one of them out",
        }],
        needs: None,
        root_only: false,
        shown: None,
    },
    ShareOption {
        name: "cache",
        takes: Takes::Choice(&[
            Choice {
                value: "never",
                help: "ask the host every time; direct I/O",
                set: |share| share.service.server.cache = CachePolicy::Never,
            },
            Choice {
                value: "metadata",
                help: "keep names and attributes, never data",
                set: |share| share.service.server.cache = CachePolicy::Metadata,
            },
            Choice {
                value: "auto",
                help: "keep everything until the file is opened again",
                set: |share| share.service.server.cache = CachePolicy::Auto,
            },
            Choice {
                value: "always",
                help: "keep everything: for trees nobody else changes",
                set: |share| share.service.server.cache = CachePolicy::Always,
            },
        ]),
        help: "",
        default: "auto",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: Some(("cache", |service| {
            match service.server.cache {
                CachePolicy::Never => "never",
                CachePolicy::Metadata => "metadata",
                CachePolicy::Auto => "auto",
                CachePolicy::Always => "always",
            }
            .into()
        })),
    },
    ShareOption {
        name: "writeback",
        takes: Takes::Nothing(|share| share.service.server.writeback = true),
        help: "the guest collects writes before it sends them; nobody else may write to the \
               directory then, with `cache=auto` either",
        default: "off",
        excludes: &[
            // Linux appends at the size it remembers, whatever is there by now.
            Exclusion {
                other: "cache=never",
                mend: "the guest would overwrite what the host appends; leave writeback out",
            },
            Exclusion {
                other: "cache=metadata",
                mend: "the guest would overwrite what the host appends; leave writeback out",
            },
            // Linux would trust its own sizes and times: it misses changes.
            Exclusion {
                other: "ro",
                mend: "nothing is written to a read-only share; leave writeback out, or add rw",
            },
            // What a guest has written stays in it when it gives up a lock.
            Exclusion {
                other: "locks",
                mend: "locks are for files that others write too; leave one of them out",
            },
        ],
        needs: None,
        root_only: false,
        shown: Some(("writeback", |service| service.server.writeback.into())),
    },
    ShareOption {
        name: "atomic-truncate",
        takes: Takes::Nothing(|share| share.service.server.atomic_truncate = true),
        help: "with `writeback`, a file that is opened with `O_TRUNC` is emptied by the OPEN, \
               not by a request that follows it",
        default: "off",
        excludes: &[],
        needs: Some(Need {
            other: "writeback",
            why: "without it Linux does not wait for what is still on its way to the file",
        }),
        root_only: false,
        shown: Some(("atomic_truncate", |service| {
            service.server.atomic_truncate.into()
        })),
    },
    ShareOption {
        name: "xattr",
        takes: Takes::Nothing(|share| share.service.server.xattr = true),
        help: "serve extended attributes",
        default: "on",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: None,
    },
    ShareOption {
        name: "no-xattr",
        takes: Takes::Nothing(|share| share.service.server.xattr = false),
        help: "say that there are no extended attributes",
        default: "",
        excludes: &[Exclusion {
            other: "xattr",
            mend: "leave one of them out",
        }],
        needs: None,
        root_only: false,
        shown: Some(("xattr", |service| service.server.xattr.into())),
    },
    ShareOption {
        name: "acl",
        takes: Takes::Nothing(|share| share.service.server.posix_acl = true),
        help: "serve POSIX ACLs; a directory's default ACL takes the place of the umask",
        default: "off",
        excludes: &[Exclusion {
            other: "no-xattr",
            mend: "ACLs are extended attributes; leave one of them out",
        }],
        needs: None,
        root_only: false,
        shown: Some(("acl", |service| service.server.posix_acl.into())),
    },
    ShareOption {
        name: "submounts",
        takes: Takes::Nothing(|share| share.service.server.announce_submounts = true),
        help: "what the host has mounted below DIR is mounted in the guest too: `df`, `find -xdev` \
               and `st_dev` tell it apart",
        default: "off",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: Some(("submounts", |service| {
            service.server.announce_submounts.into()
        })),
    },
    ShareOption {
        name: "idmap",
        takes: Takes::Nothing(|share| share.service.server.idmap = true),
        help: "the guest may mount it again with other owners (`X-mount.idmap`, from Linux 6.12 on)",
        default: "off",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: Some(("idmap", |service| service.server.idmap.into())),
    },
    ShareOption {
        name: "export",
        takes: Takes::Nothing(|share| share.service.server.remembered = Config::EXPORTED),
        help: "remember the last 65 536 nodes that the guest has forgotten: for an NFS server in \
               it, and for `open_by_handle_at`",
        default: "off",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: Some(("export", |service| (service.server.remembered > 0).into())),
    },
    owners::OWNERS,
    owners::UID_MAP,
    owners::GID_MAP,
    owners::FORGET_OWNERS,
    ShareOption {
        name: "locks",
        takes: Takes::Nothing(|share| share.service.server.locks = true),
        help: "locks of the guest count on the host and in other guests, and theirs in the guest",
        default: "off",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: Some(("locks", |service| service.server.locks.into())),
    },
    device::DAX,
    device::QUEUES,
    device::QUEUE_SIZE,
    device::ACCESS_PLATFORM,
    ShareOption {
        name: "overlay-size",
        takes: Takes::Value {
            placeholder: "SIZE",
            example: "1G",
            set: |share, value| {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                // To tmpfs 0 is no limit at all.
                let size = size.filter(|size: &Size| size.bytes() > 0);
                let expected = || "a size above 0, such as 64M or 2G".to_owned();
                share.overlay_size =
                    Some(size.ok_or_else(|| wrong("overlay-size", value, expected()))?);
                Ok(())
            },
        },
        help: "only for `--root` without `rw`: how large the overlay in the guest's memory may \
               grow",
        default: "half of the memory",
        excludes: &[Exclusion {
            other: "rw",
            mend: "changes go to the directory with rw, and there is no overlay; leave one of \
                   them out",
        }],
        needs: None,
        root_only: true,
        shown: None,
    },
    ShareOption {
        name: "path",
        takes: Takes::Directory,
        help: "in place of DIR, as the last option: for names with a comma",
        default: "",
        excludes: &[],
        needs: None,
        root_only: false,
        shown: None,
    },
];

/// The option of this name.
pub(crate) fn named(name: &[u8]) -> Option<&'static ShareOption> {
    OPTIONS.iter().find(|option| option.name.as_bytes() == name)
}
