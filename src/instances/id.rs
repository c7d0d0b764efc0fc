//! Makes instance ids and public numbers. Pure: random numbers come in.
//!
//! There is no parser: imported aliases have other shapes, so nothing is refused by shape alone.

use crate::ids::{InstanceId, InstancePrefix, PublicId};
use crate::secret::Secret;
use crate::vault::base32;

/// Random bytes of an instance id: one letter each, 130 bits.
pub(super) const ID_BYTES: usize = 26;

/// Random bytes of a public number: one letter each. It opens nothing, and a clash is noticed.
pub(super) const PUBLIC_BYTES: usize = 12;

/// `{prefix}_{user tag}_{26 letters}`.
pub(super) fn instance_id(
    prefix: &InstancePrefix,
    user_tag: &str,
    random: &[u8; ID_BYTES],
) -> InstanceId {
    let letters = Secret::new(base32(random));
    InstanceId::new(format!("{prefix}_{user_tag}_{}", letters.expose()))
}

/// `ins_{12 letters}`.
pub(super) fn public_id(random: &[u8; PUBLIC_BYTES]) -> PublicId {
    let text = format!("ins_{}", base32(random));
    PublicId::parse(&text).expect("twelve letters of base32 make a public number")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_have_the_promised_shape(
            prefix in "[a-z][a-z0-9]{0,15}", tag in "[0-9a-f]{12}", random: [u8; ID_BYTES],
        ) {
            let parsed = InstancePrefix::parse(&prefix).unwrap();
            let id = instance_id(&parsed, &tag, &random);
            let parts: Vec<&str> = id.expose().split('_').collect();
            prop_assert_eq!(&parts[..2], &[prefix.as_str(), tag.as_str()]);
            prop_assert_eq!(parts.len(), 3);
            prop_assert_eq!(parts[2].len(), 26);
            prop_assert!(parts[2].bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')));
        }

        #[test]
        fn public_numbers_are_public_numbers(random: [u8; PUBLIC_BYTES]) {
            let public = public_id(&random);
            prop_assert_eq!(PublicId::parse(public.as_str()), Ok(public));
        }

        #[test]
        fn ids_differ_where_their_random_bits_do(
            one: [u8; ID_BYTES], two: [u8; ID_BYTES],
        ) {
            let prefix = InstancePrefix::parse("fig").unwrap();
            let bits = |random: [u8; ID_BYTES]| random.map(|byte| byte & 31);
            let same = instance_id(&prefix, "0", &one).expose()
                == instance_id(&prefix, "0", &two).expose();
            prop_assert_eq!(same, bits(one) == bits(two));
        }
    }
}
