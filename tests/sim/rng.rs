//! All chance of a simulation: one seed, one sequence (SplitMix64).

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed ^ 0x9e37_79b9_7f4a_7c15);
        rng.next();
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A stream of its own, so that what one part draws does not move the others.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// One of `0..n`; `n` at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// One of `from..=to`.
    pub fn range(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1).unsigned_abs()).cast_signed()
    }

    /// True in `n` of a thousand cases.
    pub fn permille(&mut self, n: u64) -> bool {
        n > 0 && self.below(1000) < n
    }

    /// Small values often, large ones rarely: as many between 1 and 10 as between 10 and 100.
    pub fn wide(&mut self, from: i64, to: i64) -> i64 {
        let mut top = to;
        while top > from * 2 && self.below(2) == 0 {
            top /= 3;
        }
        self.range(from, top.max(from))
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = self.below(of.len() as u64);
        &of[usize::try_from(place).unwrap()]
    }
}
