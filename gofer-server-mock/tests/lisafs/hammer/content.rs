//! Content that tells which file it is of, byte by byte.

/// Content is made of blocks of this many bytes.
pub const BLOCK: usize = 64;

/// Bytes of block `index` of the file `id`.
fn block(id: u64, index: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let words = [id, index, mix(id ^ mix(index)), !id, !index];
    for (place, word) in bytes.chunks_mut(8).zip(words.into_iter().cycle()) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The content of the file `id`, in full.
pub fn content(id: u64, blocks: u64) -> Vec<u8> {
    (0..blocks).flat_map(|index| block(id, index)).collect()
}

/// The file that `bytes` are the beginning of, `None` where nothing is written yet. Bytes that
/// are not written may be zero, any other deviation is an error.
pub fn identify(bytes: &[u8]) -> Result<Option<u64>, String> {
    let mut found = None;
    for (index, chunk) in bytes.chunks(BLOCK).enumerate() {
        let Some(id) = chunk.first_chunk().map(|id| u64::from_le_bytes(*id)) else {
            return Err(format!("{} bytes are no block", chunk.len()));
        };
        if id == 0 {
            continue;
        }
        let wanted = block(id, index as u64);
        let mut pairs = chunk.iter().zip(&wanted);
        if !pairs.all(|(is, should)| is == should || *is == 0) {
            return Err(format!(
                "block {index} claims to be of file {id} and is not"
            ));
        }
        match found {
            Some(other) if other != id => {
                return Err(format!("blocks of the files {other} and {id} in one"));
            }
            _ => found = Some(id),
        }
    }
    Ok(found)
}

/// Spreads the bits of a number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Pseudo-random choices.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = mix(self.0);
        (self.0 >> 16) as usize % sides
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

#[test]
fn wrong_content_is_seen() {
    let good = content(7, 3);
    assert_eq!(identify(&good), Ok(Some(7)));
    assert_eq!(identify(&[0; 3 * BLOCK]), Ok(None));
    assert_eq!(identify(&[]), Ok(None));
    for at in [8, BLOCK + 40, 3 * BLOCK - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        identify(&bad).unwrap_err();
    }
    let moved = [&good[BLOCK..], &good[..BLOCK]].concat();
    identify(&moved).unwrap_err();
    identify(&[&good[..BLOCK], &content(8, 2)[BLOCK..]].concat()).unwrap_err();
}
