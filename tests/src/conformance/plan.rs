//! Which suites are run where.

use super::backend::{BACKENDS, Backend};
use super::mode::{MODES, Mode, User};
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
}

/// Everything everywhere.
#[must_use]
pub fn full() -> Vec<Item> {
    let mut plan = Vec::new();
    for backend in BACKENDS {
        for suite in SUITES {
            for user in suite.users {
                plan.push(Item {
                    suite,
                    backend,
                    user: *user,
                    modes: MODES.to_vec(),
                });
            }
        }
    }
    plan
}

/// What `make test` has time for: names and data in every mode, the others in
/// three.
#[must_use]
pub fn short() -> Vec<Item> {
    let three = ["never", "auto", "always,writeback"];
    let some: Vec<Mode> = three.iter().copied().filter_map(Mode::named).collect();
    let parts: [(&str, User, &[Mode], &[&str]); 3] = [
        ("tmpfs", User::Root, MODES, &["fsx", "pjdfstest"]),
        ("ext4", User::Ordinary, &some[1..2], &["pjdfstest"]),
        ("ext4", User::Root, &some, &["sqlite3", "git", "copies"]),
    ];
    let mut plan = Vec::new();
    for (backend, user, modes, suites) in parts {
        for name in suites {
            if let (Some(suite), Some(backend)) = (Suite::named(name), Backend::named(backend)) {
                plan.push(Item {
                    suite,
                    backend,
                    user,
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
                && !item.modes.is_empty()
        });
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::super::mode::USERS;
    use super::*;

    #[test]
    fn every_suite_is_run_everywhere() {
        let plan = full();
        assert_eq!(
            plan.len(),
            BACKENDS.len() * (SUITES.len() * USERS.len() - 2)
        );
        assert!(plan.iter().all(|item| item.modes.len() == MODES.len()));
        assert!(SUITES.iter().all(|suite| suite.script().exists()));
    }

    #[test]
    fn the_short_plan_is_part_of_the_full_one() {
        let plan = short();
        assert_eq!(plan.len(), 6);
        assert!(
            plan.iter()
                .all(|item| item.suite.users.contains(&item.user))
        );
    }

    #[test]
    fn a_filter_leaves_what_it_names() {
        let filter = Filter {
            suites: Suite::named("git").into_iter().collect(),
            modes: Mode::named("auto").into_iter().collect(),
            ..Filter::default()
        };
        let plan = filter.choose(full());
        assert_eq!(plan.len(), BACKENDS.len() * USERS.len());
        assert!(plan.iter().all(|item| item.modes.len() == 1));
    }
}
