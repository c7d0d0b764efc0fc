//! Which instance ids of another system are secret enough to go on as they are. Pure.
//!
//! The rule: 22 to 200 of `A-Z a-z 0-9 - _`, at least 8 different ones, and at least 128 bits when
//! each letter counts as much as the smallest alphabet that holds all of them: 3.3 bits for digits
//! alone, 4 for hexadecimal digits, 4.7 for letters of one case, 5.1 with digits, 5.7 for both
//! cases, and 6 for both cases with digits. `-` and `_` count only in the last of these; elsewhere
//! they part words. A UUID counts when it is random (version 4): the others hold a time, as do ULIDs
//! and cuids.
//!
//! An alphabet is no randomness. Hence no more than an eighth of it may follow from what stands before:
//! go on with a run or a sequence (`aaaa`, `1234`, `dcba`), or repeat four letters. And it must not read
//! like words: so does what has ten and more of the pairs of letters that are frequent in English, when
//! they are more than half of its pairs. Of 10,000 random ids two or three are taken for words; they get
//! a new id, as all others that are not kept.

/// Fewer letters than this hold less than 128 bits in any alphabet.
const LENGTH_MIN: usize = 22;
/// Longer ones would only make URLs that clients cut.
const LENGTH_MAX: usize = 200;
/// What a random id of the least length never goes below in practice.
const DIFFERENT_MIN: usize = 8;
/// Hundredths of bits.
const BITS_MIN: usize = 12_800;

/// Letters that may follow from those before: one of so many. Of 32 random hexadecimal digits five and
/// more never do.
const FORESEEN_PART: usize = 8;
/// A sequence is one from the fourth letter on, and so is what is repeated.
const SEQUENCE: usize = 4;
/// Pairs of letters that make an id of words.
const WORD_PAIRS_MIN: usize = 10;
/// Hundredths of all pairs.
const WORD_PAIRS_PART: usize = 55;
/// For each first letter the second ones, as bits: three of four pairs in a text, one of seven among
/// random ones.
const WORD_PAIRS: [u32; 26] = second_letters(
    b"th he in er an re nd at on nt ha es st en ed to it ou ea hi is or ti as te et ng of al \
      de se le sa si ar ve ra ld ur ic ro co me io ne li ri ta la el ma us om ce ec ll ch ot \
      di so ee pe tr ac na ho rs ct pl wh ni un ca em po su ap ss rt ge id fo ad ow il im no \
      ol ai mo ut ir am vi wo ag bl ul pr sh ay ke ts",
);

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
    /// Each letter tells the next one.
    #[error("it repeats itself or counts on")]
    Foreseen,
    /// It is written in a language.
    #[error("it reads like words")]
    Words,
    /// A UUID that is made of a time.
    #[error("it is a UUID that is not random (only version 4 is)")]
    Uuid,
    /// Another id that is made of a time.
    #[error("it is a ULID or a cuid, which are made of a time")]
    Timed,
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
    if is_timed(bytes) {
        return Err(AliasError::Timed);
    }
    let plain: Vec<u8> = bytes.iter().copied().filter(|b| !is_sign(*b)).collect();
    if foreseen(&plain) > plain.len() / FORESEEN_PART {
        return Err(AliasError::Foreseen);
    }
    if reads_like_words(bytes) {
        return Err(AliasError::Words);
    }
    Ok(())
}

/// How many letters follow from those before.
fn foreseen(letters: &[u8]) -> usize {
    let step = |pair: &[u8]| i16::from(pair[1]) - i16::from(pair[0]);
    let follows = |at: usize, window: &[u8]| {
        let first = step(window);
        let goes_on = first.abs() <= 1 && window.windows(2).all(|pair| step(pair) == first);
        let before = &letters[..at + SEQUENCE - 1];
        goes_on || before.windows(SEQUENCE).any(|before| before == window)
    };
    let windows = letters.windows(SEQUENCE).enumerate();
    windows.filter(|&(at, window)| follows(at, window)).count()
}

fn reads_like_words(id: &[u8]) -> bool {
    let letter = |b: u8| {
        b.is_ascii_alphabetic()
            .then(|| b.to_ascii_lowercase() - b'a')
    };
    let (mut all, mut frequent) = (0, 0);
    for pair in id.windows(2) {
        if let (Some(first), Some(second)) = (letter(pair[0]), letter(pair[1])) {
            all += 1;
            frequent += usize::from(WORD_PAIRS[usize::from(first)] >> second & 1 == 1);
        }
    }
    frequent >= WORD_PAIRS_MIN && frequent * 100 >= all * WORD_PAIRS_PART
}

/// Reads pairs of small letters that are parted by spaces.
const fn second_letters(pairs: &[u8]) -> [u32; 26] {
    let mut table = [0; 26];
    let mut at = 0;
    while at + 1 < pairs.len() {
        let (first, second) = (pairs[at] - b'a', pairs[at + 1] - b'a');
        table[first as usize] |= 1 << second;
        at += 3;
    }
    table
}

/// A ULID of these decades, or a cuid of these years.
fn is_timed(id: &[u8]) -> bool {
    let is_crockford = |b: &u8| {
        let upper = b.to_ascii_uppercase();
        upper.is_ascii_alphanumeric() && !matches!(upper, b'I' | b'L' | b'O' | b'U')
    };
    let is_small = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_ulid = id.len() == 26 && id.starts_with(b"01") && id.iter().all(is_crockford);
    let is_cuid = id.len() == 25
        && id.starts_with(b"c")
        && matches!(id[1], b'i'..=b'n')
        && id.iter().all(is_small);
    is_ulid || is_cuid
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
        use AliasError::{Foreseen, Guessable, Length, Letters, Timed, Uuid, Words};
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
            ("1234567890123456789012345678901234567890", Err(Foreseen)),
            ("2024013112000000000120240131120000000002", Err(Guessable)),
            ("0123456789abcdef0123456789abcdef", Err(Foreseen)),
            ("9876543210fedcba9876543210fedcba", Err(Foreseen)),
            ("a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4", Err(Foreseen)),
            ("00000000-0000-4000-8000-0123456789ab", Err(Foreseen)),
            ("qwertyuiop1234567890asdfghjkl12345678", Err(Foreseen)),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabcdefg01", Err(Foreseen)),
            ("correct-horse-battery-staple-garden", Err(Words)),
            ("CorrectHorseBatteryStapleGarden2024", Err(Words)),
            ("user-alice-instance-production-4711", Err(Words)),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", Err(Timed)),
            ("cjld2cjxh0000qzrmn831i7rn", Err(Timed)),
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
                // Seldom, and said above.
                prop_assume!(!reads_like_words(id.as_bytes()) && !is_timed(id.as_bytes()));
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
