//! Which instance ids of another system are secret enough to go on as they are. Pure.
//!
//! The rule: 22 to 200 of `A-Z a-z 0-9 - _`, at least 8 different ones, and at least 128 bits when
//! each letter counts as much as the smallest alphabet that holds all of them: 3.3 bits for digits
//! alone, 4 for hexadecimal digits, 4.7 for letters of one case, 5.1 with digits, 5.7 for both
//! cases, and 6 for both cases with digits. `-` and `_` count only in the last of these; elsewhere
//! they part words. A UUID counts when it is random (version 4): the others hold a time.

/// Fewer letters than this hold less than 128 bits in any alphabet.
const LENGTH_MIN: usize = 22;
/// Longer ones would only make URLs that clients cut.
const LENGTH_MAX: usize = 200;
/// What a random id of the least length never goes below in practice.
const DIFFERENT_MIN: usize = 8;
/// Hundredths of bits.
const BITS_MIN: usize = 12_800;

/// Why an id is not kept as an alias. None of them repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// It would have to be written otherwise in a URL.
    #[error("it has characters other than `A-Z a-z 0-9 - _`")]
    Letters,
    /// Fewer or more than the limits.
    #[error("it has fewer than {LENGTH_MIN} or more than {LENGTH_MAX} characters")]
    Length,
    /// Of few letters, or of a small alphabet.
    #[error("it holds less than 128 random bits")]
    Guessable,
    /// A UUID that is made of a time.
    #[error("it is a UUID that is not random (only version 4 is)")]
    Uuid,
}

/// Is it as hard to guess as an id that is made here?
///
/// # Errors
/// See [`AliasError`].
pub fn check(id: &str) -> Result<(), AliasError> {
    let bytes = id.as_bytes();
    let fits = |b: &u8| b.is_ascii_alphanumeric() || is_sign(*b);
    if !bytes.iter().all(fits) {
        return Err(AliasError::Letters);
    }
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&bytes.len()) {
        return Err(AliasError::Length);
    }
    let mut different: Vec<u8> = bytes.iter().copied().filter(|b| !is_sign(*b)).collect();
    let letters = different.len();
    let (each, counts_signs) = alphabet(&different);
    different.sort_unstable();
    different.dedup();
    let counted = if counts_signs { bytes.len() } else { letters };
    if different.len() < DIFFERENT_MIN || counted * each < BITS_MIN {
        return Err(AliasError::Guessable);
    }
    if is_uuid(bytes) && bytes[14] != b'4' {
        return Err(AliasError::Uuid);
    }
    Ok(())
}

fn is_sign(byte: u8) -> bool {
    matches!(byte, b'-' | b'_')
}

/// Hundredths of bits of one letter, and whether signs are letters, too.
fn alphabet(letters: &[u8]) -> (usize, bool) {
    let any = |is: fn(&u8) -> bool| letters.iter().any(is);
    let (lower, upper) = (any(u8::is_ascii_lowercase), any(u8::is_ascii_uppercase));
    let is_hex = letters.iter().all(u8::is_ascii_hexdigit);
    match (lower, upper, any(u8::is_ascii_digit)) {
        (true, true, true) => (600, true),
        (true, true, false) => (570, false),
        (false, false, _) => (332, false),
        _ if is_hex => (400, false),
        (_, _, true) => (516, false),
        (_, _, false) => (470, false),
    }
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562 §4).
fn is_uuid(bytes: &[u8]) -> bool {
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, byte): (usize, &u8)| match is_dash(at) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    bytes.len() == 36 && bytes.iter().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_of_other_systems() {
        use AliasError::{Guessable, Length, Letters, Uuid};
        for (id, expected) in [
            ("0b6f1c52-9a77-4e0e-8d2b-3c1f5a6e7d80", Ok(())),
            ("0b6f1c52-9a77-1e0e-8d2b-3c1f5a6e7d80", Err(Uuid)),
            ("018f3c52-9a77-7e0e-8d2b-3c1f5a6e7d80", Err(Uuid)),
            ("0b6f1c529a774e0e8d2b3c1f5a6e7d80", Ok(())),
            ("0b6f1c529a774e0e8d2b3c1f5a6e7d8", Err(Guessable)),
            ("V1StGXR8_Z5jdHi6B-myTx", Ok(())),
            ("V1StGXR8_Z5jdHi6B-myT", Err(Length)),
            ("fig_9f3a12bc04d1_k7qx3mzt2v5wnb4rj6ycaehdls", Ok(())),
            ("user-42", Err(Length)),
            ("", Err(Length)),
            ("abcabcabcabcabcabcabcabcabcabcabcabc", Err(Guessable)),
            ("123456789012345678901234567890", Err(Guessable)),
            ("fig/9f3a12bc04d1k7qx3mzt2v5wn", Err(Letters)),
            ("figé9f3a12bc04d1k7qx3mzt2v5wn", Err(Letters)),
        ] {
            assert_eq!(check(id), expected, "{id}");
        }
        assert_eq!(check(&"Ab3-".repeat(51)), Err(Length));
    }

    proptest! {
        #[test]
        fn random_ids_of_128_bits_and_more_are_kept(
            wide in "[A-Za-z0-9_-]{24}", hex in "[0-9a-f]{40}", small in "[a-z2-7]{32}",
        ) {
            // Of all ids that may come, those without a digit or a case are few.
            prop_assume!(wide.bytes().any(|b| b.is_ascii_digit()));
            prop_assume!(wide.bytes().any(|b| b.is_ascii_uppercase()));
            prop_assume!(wide.bytes().any(|b| b.is_ascii_lowercase()));
            for id in [wide, hex, small] {
                prop_assert_eq!(check(&id), Ok(()), "{}", id);
            }
        }

        #[test]
        fn what_is_kept_stands_in_a_path_as_it_is(id in "\\PC{0,60}") {
            if check(&id).is_ok() {
                prop_assert!(id.len() >= LENGTH_MIN && !id.contains(['/', '%', '.', '?']));
            }
        }
    }
}
