//! The options that say whose the files are.

use devices::passthrough::Owners;

use crate::share::argument::ShareArgument;
use crate::share::error::Error;
use crate::share::ids::{IdMap, IdRange};
use crate::share::option::{Choice, Exclusion, ShareOption, Takes};
use crate::share::value::wrong;

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
            value: "map",
            help: "the guest's users are others on the host, by `uid-map=` and `gid-map=`",
            set: |share| share.service.server.owners = Owners::Mapped,
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
    needs: None,
    root_only: false,
    shown: Some(("owners", |service| {
        match service.server.owners {
            Owners::Automatic => "auto",
            Owners::Host => "host",
            Owners::User => "user",
            Owners::Mapped => "map",
            Owners::Xattr => "xattr",
        }
        .into()
    })),
};

/// With maps, owners are mapped.
const NOT_MAPPED: &[Exclusion] = &[
    not_mapped("owners=auto"),
    not_mapped("owners=host"),
    not_mapped("owners=user"),
    not_mapped("owners=xattr"),
    Exclusion {
        other: "forget-owners",
        mend: "who is mapped is not forgotten; leave forget-owners out",
    },
];

const fn not_mapped(other: &'static str) -> Exclusion {
    Exclusion {
        other,
        mend: "maps are for owners=map; leave one of them out",
    }
}

pub(super) const UID_MAP: ShareOption = ShareOption {
    name: "uid-map",
    takes: Takes::Several {
        placeholder: "GUEST:HOST:COUNT",
        example: "0:1000:1",
        add: |share, value| add("uid-map", share, value, |share| &mut share.maps.uids),
    },
    help: "as many users from GUEST on are those from HOST on; repeatable, and means `owners=map`",
    default: "root is the user who runs `vmm`, and 1 the first of `/etc/subuid`",
    excludes: NOT_MAPPED,
    needs: None,
    root_only: false,
    shown: None,
};

pub(super) const GID_MAP: ShareOption = ShareOption {
    name: "gid-map",
    takes: Takes::Several {
        placeholder: "GUEST:HOST:COUNT",
        example: "0:1000:1",
        add: |share, value| add("gid-map", share, value, |share| &mut share.maps.gids),
    },
    help: "the same for groups",
    default: "the same, of `/etc/subgid`",
    excludes: NOT_MAPPED,
    needs: None,
    root_only: false,
    shown: None,
};

fn add(
    name: &'static str,
    share: &mut ShareArgument,
    value: &[u8],
    map: fn(&mut ShareArgument) -> &mut IdMap,
) -> Result<(), Error> {
    let expected = || "GUEST:HOST:COUNT, three numbers such as 1:100000:65536".to_owned();
    let range = IdRange::parse(value).ok_or_else(|| wrong(name, value, expected()))?;
    share.service.server.owners = Owners::Mapped;
    let map = map(share);
    if map.ranges().len() == IdMap::MOST {
        let limit = IdMap::MOST;
        return Err(Error::TooMany { name, limit });
    }
    map.add(range)
        .map_err(|other| Error::Overlap { name, range, other })
}

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
            other: "owners=map",
            mend: "who is mapped is not forgotten; leave forget-owners out",
        },
        Exclusion {
            other: "owners=xattr",
            mend: "every owner is kept there; leave forget-owners out",
        },
    ],
    needs: None,
    root_only: false,
    shown: Some(("forget_owners", |service| {
        service.server.forget_owners.into()
    })),
};
