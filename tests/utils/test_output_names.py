from concurrent.futures import ThreadPoolExecutor

import pytest

from mmdet.utils.output_names import LONGEST, OutputNames, common_folder, safe_name

FOUR = ['/data/a/x/1.jpg', '/data/a/y/1.jpg', '/data/b/x/1.jpg', '/data/b/y/1.jpg']


def test_pictures_keep_their_folders_below_the_root():
    names = OutputNames('/data/')
    assert [names(path) for path in FOUR] == ['a/x/1.jpg', 'a/y/1.jpg', 'b/x/1.jpg', 'b/y/1.jpg']
    assert names('/elsewhere/2.png') == '2.png' and names('/database/1.jpg') == '1.jpg'


@pytest.mark.parametrize('order', [FOUR, FOUR[::-1]])
def test_names_settled_together_do_not_depend_on_the_order(order):
    names = dict(zip(order, OutputNames().reserve(order), strict=True))
    assert names == {path: path.removeprefix('/data/') for path in FOUR}


def test_pictures_of_several_folders_have_their_own_names_where_these_differ():
    assert OutputNames().reserve(['/a/1.jpg', '/b/2.jpg']) == ['1.jpg', '2.jpg']


def test_a_name_that_is_taken_gets_the_digest_of_its_path():
    names = OutputNames()
    given = [names(path) for path in FOUR]
    assert given[0] == '1.jpg' and len({*given}) == 4 and all(name.startswith('1-') for name in given[1:])
    assert [names(path) for path in FOUR[::-1]] == given[::-1]  # whenever it is asked for
    again = OutputNames()
    assert [again(path) for path in FOUR] == given


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ('/d/a.jpg', '/D/A.JPG'),  # one file on systems that do not tell cases apart
        ('/d/\u00e9.jpg', '/d/e\u0301.jpg'),  # one letter or two code points
        ('/d/a?.jpg', '/d/a*.jpg'),
        ('/d/con.jpg', '/d/_con.jpg'),
        ('/d/x .jpg', '/d/x.jpg'),
        ('http://h/1.jpg?size=1', 'http://h/1.jpg?size=2'),
        ('/d/x.gif', '/d/x.pgm'),  # neither is written as such
    ],
)
def test_different_pictures_never_share_a_file(one, other):
    for paths in ((one, other), (other, one)):
        names = [OutputNames().reserve(paths), [*map(OutputNames(), paths)]]
        single = OutputNames('/d')
        names.append([single(path) for path in paths])
        for pair in names:
            assert len({name.casefold() for name in pair}) == 2


def test_stems_may_have_to_differ():
    assert OutputNames().reserve(['/d/1.png', '/d/1.jpg']) == ['1.png', '1.jpg']
    first, second = OutputNames(by_stem=True).reserve(['/d/1.png', '/d/1.jpg'])
    assert first == '1.png' and second.startswith('1-')


@pytest.mark.parametrize(
    ('name', 'safe'),
    [
        ('plain name.v2', 'plain name.v2'),
        ('人', '人'),
        ('a:b|c"d<e>f', 'a_b_c_d_e_f'),
        ('tab\tnew\nline', 'tab_new_line'),
        ('..', '_'),
        ('', '_'),
        ('ends. ', 'ends'),
        ('NUL', '_NUL'),
        ('com1.tar', '_com1.tar'),
        ('lpt', 'lpt'),
    ],
)
def test_names_that_every_system_takes(name, safe):
    assert safe_name(name) == safe


@pytest.mark.parametrize('letter', ['a', '人', '\U0001f600'])
def test_endless_names_are_cut_between_letters(letter):
    safe = safe_name(letter * 300)
    assert LONGEST - 4 <= len(safe.encode()) <= LONGEST and set(safe) == {letter}


def test_nothing_is_written_outside():
    name = OutputNames()('http://host/a/%2e%2e%2f%2e%2e%2fsecret.png')
    assert '/' not in name and '..' not in name.split('/')
    assert OutputNames('/d')('/d/../etc/x.png') == 'x.png'


def test_tags_and_suffixes():
    names = OutputNames('/d')
    assert names('/d/a/1.jpg', '_0.500') == 'a/1_0.500.jpg' and names('/d/a/1.jpg') == 'a/1.jpg'
    assert names('/d/2.gif') == '2.jpg' and names('/d/3') == '3.jpg' and names('/d/4.PNG') == '4.PNG'


def test_common_folders():
    assert common_folder(['/d/a/b', '/d/a', '/d/ab']) == '/d' and common_folder(['/a', '/b']) == '/'
    assert common_folder(['http://h/a', 'http://h/b']) == 'http://h' and common_folder([]) is None
    assert common_folder(['C:/a', 'D:/b']) is None


def test_threads_get_different_names():
    names = OutputNames()
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(names, [f'/{i}/1.jpg' for i in range(200)]))
    assert len({*given}) == 200
