//! How many requests a peer has on their way at a time.

/// Requests after which what was seen before them counts for no more than as many again.
const WINDOW_REQUESTS: u32 = 16;

/// The depth of a peer's pipeline, as its last requests show it.
///
/// A client sends until so many requests as it may have (`max.in.flight.requests.per.connection`, and 1
/// for one that waits for each answer) are not answered yet. What that number is only its requests tell.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    /// The greatest depth of this window and of the one before.
    depths: [usize; 2],
    /// The requests of this window.
    requests: u32,
}

impl Pipeline {
    /// Notes a request that came while so many others were not answered. Whether the peer has as many on
    /// their way as it ever had of late, and is expected to send nothing more before an answer.
    pub(super) fn is_full_with(&mut self, others: usize) -> bool {
        let depth = others + 1;
        let [this, last] = self.depths;
        if self.requests == WINDOW_REQUESTS {
            self.depths = [depth, this];
            self.requests = 0;
        } else {
            self.depths = [this.max(depth), last];
        }
        self.requests += 1;
        depth >= this.max(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_each_answer_is_full_with_every_request() {
        let mut pipeline = Pipeline::default();
        assert!((0..100).all(|_| pipeline.is_full_with(0)));
    }

    #[test]
    fn who_has_five_on_their_way_is_full_with_the_fifth() {
        let mut pipeline = Pipeline::default();
        for others in 0..5 {
            // It is not known yet that there will be more.
            assert!(pipeline.is_full_with(others));
        }
        for round in 0..20 {
            for others in 0..5 {
                assert_eq!(pipeline.is_full_with(others), others == 4, "{round}");
            }
        }
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut pipeline = Pipeline::default();
        pipeline.is_full_with(4);
        let not_full = (0..).take_while(|_| !pipeline.is_full_with(0)).count();
        let window = WINDOW_REQUESTS as usize;
        assert!((window..=2 * window).contains(&not_full), "{not_full}");
        assert!((0..100).all(|_| pipeline.is_full_with(0)));
    }
}
