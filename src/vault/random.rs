//! Random numbers from the system, and the letters that ids are written in.

/// The system has no random numbers to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random numbers to give")]
pub struct RandomError(#[from] getrandom::Error);

/// `N` bytes that nobody can guess.
///
/// # Errors
/// The system call failed, which Linux does only in a broken sandbox.
pub fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// One letter of `a-z2-7` per byte, each worth 5 bits: of random bytes, text without bias.
pub fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte & 31)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_one_letter() {
        assert_eq!(base32(&[0, 25, 26, 31, 32, 255]), "az27a7");
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }
}
