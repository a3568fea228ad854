//! Tables by numbers that no guest chooses: those that this server counts up, and those
//! that the host's file system gave its files. The standard library's hash holds
//! against keys of an attacker's choice, and takes up to a quarter of a LOOKUP for it.

use std::collections::{HashMap, HashSet};

pub(super) use foldhash::fast::RandomState;

pub(super) type NumberMap<K, V> = HashMap<K, V, RandomState>;
pub(super) type NumberSet<K> = HashSet<K, RandomState>;
