from cotexd.domain.tier import DEFAULT, SEEDS, Tier, repo_limit


def test_a_tier_limits_repositories():
    assert repo_limit(Tier("free", 2), None) == 2


def test_a_users_own_limit_goes_before_the_tiers():
    assert repo_limit(Tier("free", 2), 7) == 7
    assert repo_limit(Tier("free", 2), 0) == 0


def test_a_new_user_has_the_smallest_tier_that_is_there_from_the_start():
    assert min(SEEDS, key=lambda tier: tier.repos).name == DEFAULT
