//! Whatever bytes come: no panic, and one well-formed reply where there is
//! room for one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::guest::{Message, exchange_scattered};
use super::recorder::{EVERYTHING, before_session, in_session};
use crate::fuse::{Opcode, Server};

/// Sends `request` cut where `cuts` say, and checks what comes back.
fn check(server: &Server, request: &[u8], cuts: &[usize], rooms: &[usize]) {
    let mut pieces = Vec::new();
    let mut rest = request;
    for cut in cuts {
        let (piece, tail) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    let answer = exchange_scattered(server, &pieces, rooms);
    let silent = request.len() >= 8 && matches!(request[4..8], [2 | 42, 0, 0, 0]);
    if silent || rooms.iter().sum::<usize>() < 16 {
        answer.assert_nothing();
        return;
    }
    answer.assert_well_formed();
    if let Some(unique) = request.get(8..16) {
        assert_eq!(answer.memory[8..16], *unique);
    }
}

/// Room for a reply, in a few pieces.
fn rooms() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![0..32_usize, 0..5000_usize], 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_answered(
        request in vec(any::<u8>(), 0..200),
        cuts in vec(0..64_usize, 0..4),
        rooms in rooms(),
        in_a_session in any::<bool>(),
    ) {
        let capabilities = EVERYTHING;
        let (server, _) = if in_a_session { in_session(capabilities) } else { before_session(capabilities) };
        check(&server, &request, &cuts, &rooms);
    }

    #[test]
    fn any_body_behind_a_sound_header_is_answered(
        requests in vec((0..60_u32, body(), 0..4_u16), 1..8),
        cuts in vec(0..64_usize, 0..4),
        rooms in rooms(),
    ) {
        let (server, _) = in_session(EVERYTHING);
        for (opcode, body, extensions) in requests {
            let message = Message::new(Opcode(opcode), 1).bytes(&body);
            let request = message.extensions(extensions).finish();
            check(&server, &request, &cuts, &rooms);
        }
    }

    #[test]
    fn any_damage_to_a_sound_request_is_answered(
        which in 0..super::requests::every_request().len(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        rooms in rooms(),
    ) {
        let (server, _) = in_session(EVERYTHING);
        let sound = super::requests::every_request().swap_remove(which);
        let mut request = sound.message.finish();
        for (at, byte) in damage {
            let at = at.index(request.len());
            request[at] = byte;
        }
        check(&server, &request, &[40], &rooms);
    }
}

/// Bytes as they occur in bodies: small numbers, NULs, separators, and any.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let skewed = |byte: u8| match byte {
        0..=89 => 0,
        90..=149 => byte % 9,
        150..=174 => b'/',
        175..=199 => b'.',
        _ => byte.wrapping_mul(51),
    };
    vec(any::<u8>(), 0..200).prop_map(move |bytes| bytes.into_iter().map(skewed).collect())
}
