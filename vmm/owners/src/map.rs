//! The map of a share in full: what the user gave, or what there is without.

use vmm_options::share::{IdMap, IdMaps, IdRange};

use crate::delegation::{self, Delegated, Kind};
use crate::error::Error;
use crate::process::Process;

/// The maps of a share, with those that were not given.
pub(crate) fn complete(given: &IdMaps, process: &Process) -> Result<IdMaps, Error> {
    let map = |kind: Kind, given: &IdMap| match given.is_empty() {
        true => by_delegation(kind, process, &delegation::of(kind, process)?),
        false => with_oneself(kind, process, given.clone()),
    };
    Ok(IdMaps {
        uids: map(Kind::Users, &given.uids)?,
        gids: map(Kind::Groups, &given.gids)?,
    })
}

/// The guest's root is the user, and 1 the first that is delegated.
fn by_delegation(kind: Kind, process: &Process, delegated: &[Delegated]) -> Result<IdMap, Error> {
    if delegated.is_empty() {
        return Err(Error::NothingDelegated {
            file: kind.file(),
            kind: kind.name(),
            user: process.user(),
        });
    }
    let own = kind.own(process);
    let mut map = IdMap::default();
    let mut guest = 0;
    for (host, count) in [(own, 1)].into_iter().chain(delegated.iter().copied()) {
        // As many as there are numbers for.
        let count = count.min(u32::MAX - guest);
        if count == 0 || map.ranges().len() == IdMap::MOST {
            break;
        }
        let range = IdRange { guest, host, count };
        let clash = map.add(range).is_err();
        if clash && range.has_host(own) {
            return Err(Error::DelegatedOneself {
                file: kind.file(),
                kind: kind.name(),
                user: process.user(),
                id: own,
            });
        }
        // A line that says again what another said is passed over.
        if !clash {
            guest += count;
        }
    }
    Ok(map)
}

/// What an ordinary user has belongs to them, and is somebody's in the guest.
fn with_oneself(kind: Kind, process: &Process, map: IdMap) -> Result<IdMap, Error> {
    let id = kind.own(process);
    let known = map.ranges().iter().any(|range| range.has_host(id));
    if known || process.maps_mounts() {
        return Ok(map);
    }
    Err(Error::WithoutOneself {
        kind: kind.name(),
        id,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ALICE: Process = Process {
        uid: 1000,
        gid: 1001,
        may_switch: false,
        sees_all: true,
    };

    fn shown(map: &IdMap) -> Vec<String> {
        map.ranges().iter().map(ToString::to_string).collect()
    }

    fn default(delegated: &[Delegated]) -> Result<Vec<String>, String> {
        let map = by_delegation(Kind::Groups, &ALICE, delegated);
        map.map(|map| shown(&map))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_user_is_root_and_the_others_follow() {
        assert_eq!(
            default(&[(100_000, 65_536), (500_000, 10), (100_000, 65_536), (7, 2)]).unwrap(),
            ["0:1001:1", "1:100000:65536", "65537:500000:10", "65547:7:2"]
        );
        assert_eq!(
            default(&[(2000, 4_294_965_295)]).unwrap(),
            ["0:1001:1", "1:2000:4294965295"]
        );
        let none = default(&[]).unwrap_err();
        assert!(none.contains("/etc/subgid has no line"), "{none}");
        assert!(none.contains("--add-subgids"), "{none}");
        let own = default(&[(1000, 5)]).unwrap_err();
        assert!(own.contains("have 1001 in them"), "{own}");
    }

    #[test]
    fn an_ordinary_user_is_in_the_map() {
        let map = |ranges: &[(u32, u32, u32)]| {
            let mut map = IdMap::default();
            for (guest, host, count) in ranges.iter().copied() {
                map.add(IdRange { guest, host, count }).unwrap();
            }
            map
        };
        let without = map(&[(0, 100_000, 10)]);
        let error = with_oneself(Kind::Users, &ALICE, without.clone()).unwrap_err();
        assert!(error.to_string().contains("0:1000:1"), "{error}");
        let with = map(&[(0, 100_000, 10), (10, 999, 2)]);
        assert_eq!(
            with_oneself(Kind::Users, &ALICE, with.clone()).unwrap(),
            with
        );
        let root = Process {
            uid: 0,
            may_switch: true,
            ..ALICE
        };
        assert_eq!(
            with_oneself(Kind::Users, &root, without.clone()).unwrap(),
            without
        );
    }
}
