//! The options that say whose the files are.

use devices::passthrough::Owners;

use crate::share::option::{Choice, Exclusion, ShareOption, Takes};

pub(super) const OWNERS: ShareOption = ShareOption {
    name: "owners",
    takes: Takes::Choice(&[
        Choice {
            value: "auto",
            help: "`host` for root and for a `--root`, and `user` for other shares",
            set: |share| share.service.server.owners = Owners::Automatic,
        },
        Choice {
            value: "host",
            help: "owners are the host's; without root nobody can be made one",
            set: |share| share.service.server.owners = Owners::Host,
        },
        Choice {
            value: "user",
            help: "the user who runs `vmm` is root in the guest, and owns what the guest makes",
            set: |share| share.service.server.owners = Owners::User,
        },
        Choice {
            value: "xattr",
            help: "owners, modes and devices are kept in attributes, \
                   `user.containers.override_stat`, and need no rights on the host",
            set: |share| share.service.server.owners = Owners::Xattr,
        },
    ]),
    help: "",
    default: "auto",
    excludes: &[],
    root_only: false,
    shown: Some(("owners", |service| {
        match service.server.owners {
            Owners::Automatic => "auto",
            Owners::Host => "host",
            Owners::User => "user",
            Owners::Xattr => "xattr",
        }
        .into()
    })),
};

pub(super) const FORGET_OWNERS: ShareOption = ShareOption {
    name: "forget-owners",
    takes: Takes::Nothing(|share| share.service.server.forget_owners = true),
    help: "with `owners=user`, to give a file to somebody who cannot have it does nothing \
           instead of failing with `EPERM`: for `tar`, `cp -a` and `install -o`",
    default: "off",
    excludes: &[
        Exclusion {
            other: "owners=host",
            mend: "nobody's owner is forgotten there; leave forget-owners out, or use owners=user",
        },
        Exclusion {
            other: "owners=xattr",
            mend: "every owner is kept there; leave forget-owners out",
        },
    ],
    root_only: false,
    shown: Some(("forget_owners", |service| {
        service.server.forget_owners.into()
    })),
};
