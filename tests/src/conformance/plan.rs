//! Which suites are run where.

use super::backend::{BACKENDS, Backend};
use super::mode::{MODES, Mode, Owners, User};
use super::suite::{SUITES, Suite};

/// One suite for one user on one file system: once as the control, and once in
/// each mode.
#[derive(Debug)]
pub struct Item {
    /// What is run.
    pub suite: &'static Suite,
    /// Below the share.
    pub backend: &'static Backend,
    /// By whom.
    pub user: User,
    /// Who serves the share.
    pub owners: Owners,
    /// How the share is cached.
    pub modes: Vec<Mode>,
}

/// What is left of the plan; nothing chosen is everything.
#[derive(Debug, Default)]
pub struct Filter {
    /// Suites by name.
    pub suites: Vec<&'static Suite>,
    /// File systems by name.
    pub backends: Vec<&'static Backend>,
    /// Modes.
    pub modes: Vec<Mode>,
    /// Users.
    pub users: Vec<User>,
    /// Who serves.
    pub owners: Vec<Owners>,
}

/// Everything everywhere.
#[must_use]
pub fn full() -> Vec<Item> {
    let mut plan = Vec::new();
    for backend in BACKENDS {
        for suite in SUITES {
            for user in suite.users {
                plan.extend(suite.owners(*user).iter().map(|owners| Item {
                    suite,
                    backend,
                    user: *user,
                    owners: *owners,
                    modes: MODES.to_vec(),
                }));
            }
        }
    }
    plan
}

/// A file system, who uses it and who serves, the modes and the suites.
type Part<'a> = (&'a str, User, Owners, &'a [Mode], &'a [&'a str]);

/// What `make test` has time for: names and data in every mode, the others in
/// three, and in one those without root.
#[must_use]
pub fn short() -> Vec<Item> {
    let three = ["never", "auto", "always,writeback"];
    let some: Vec<Mode> = three.iter().copied().filter_map(Mode::named).collect();
    let (root, one) = (User::Root, &some[1..2]);
    let parts: [Part<'_>; 5] = [
        ("tmpfs", root, Owners::Host, MODES, &["fsx", "pjdfstest"]),
        ("ext4", User::Ordinary, Owners::Host, one, &["pjdfstest"]),
        (
            "ext4",
            root,
            Owners::Host,
            &some,
            &["sqlite3", "git", "copies"],
        ),
        ("ext4", root, Owners::Mapped, one, &["pjdfstest", "copies"]),
        ("ext4", root, Owners::Xattr, one, &["pjdfstest", "copies"]),
    ];
    let mut plan = Vec::new();
    for (backend, user, owners, modes, suites) in parts {
        for name in suites {
            if let (Some(suite), Some(backend)) = (Suite::named(name), Backend::named(backend)) {
                plan.push(Item {
                    suite,
                    backend,
                    user,
                    owners,
                    modes: modes.to_vec(),
                });
            }
        }
    }
    plan
}

impl Filter {
    /// The part of `plan` that was chosen.
    #[must_use]
    pub fn choose(&self, mut plan: Vec<Item>) -> Vec<Item> {
        fn chosen<T>(chosen: &[T], is: impl Fn(&T) -> bool) -> bool {
            chosen.is_empty() || chosen.iter().any(is)
        }
        for item in &mut plan {
            let modes = &self.modes;
            item.modes
                .retain(|mode| chosen(modes, |other| other == mode));
        }
        plan.retain(|item| {
            chosen(&self.suites, |suite| suite.name == item.suite.name)
                && chosen(&self.backends, |backend| backend.name == item.backend.name)
                && chosen(&self.users, |user| *user == item.user)
                && chosen(&self.owners, |owners| *owners == item.owners)
                && !item.modes.is_empty()
        });
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::super::mode::{OWNERS, USERS};
    use super::*;

    #[test]
    fn every_suite_is_run_everywhere() {
        let plan = full();
        // Two are root's alone, and four for every owner.
        let rows = SUITES.len() * USERS.len() - 2 + 4 * (OWNERS.len() - 1);
        assert_eq!(plan.len(), BACKENDS.len() * rows);
        assert!(plan.iter().all(|item| item.modes.len() == MODES.len()));
        assert!(SUITES.iter().all(|suite| suite.script().exists()));
    }

    #[test]
    fn the_short_plan_is_part_of_the_full_one() {
        let plan = short();
        assert_eq!(plan.len(), 10);
        assert!(plan.iter().all(|item| {
            let owners = item.suite.owners(item.user);
            item.suite.users.contains(&item.user) && owners.contains(&item.owners)
        }));
    }

    #[test]
    fn a_filter_leaves_what_it_names() {
        let filter = Filter {
            suites: Suite::named("git").into_iter().collect(),
            modes: Mode::named("auto").into_iter().collect(),
            ..Filter::default()
        };
        let plan = filter.choose(full());
        assert_eq!(plan.len(), BACKENDS.len() * (USERS.len() + 2));
        assert!(plan.iter().all(|item| item.modes.len() == 1));
        let filter = Filter {
            owners: vec![Owners::Xattr],
            ..filter
        };
        assert_eq!(filter.choose(full()).len(), BACKENDS.len());
    }
}
