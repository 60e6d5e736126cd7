package main

import (
	"math/rand/v2"
	"strings"
)

func versionTexts() []string {
	texts := strings.Fields(`
		0.0.0 0.0.1 0.0.2 0.0.3 0.1.0 0.1.1 0.1.2 0.2.0 0.2.3 0.2.4 0.3.0 0.9.9 0.10.0
		1.0.0 1.0.1 1.1.0 1.1.9 1.2.0 1.2.1 1.2.2 1.2.3 1.2.4 1.2.30 1.3.0 1.9.9 1.10.0 1.11.1
		2.0.0 2.0.1 2.1.0 2.1.1 2.2.0 2.3.4 3.0.0 3.0.1 3.3.3 4.0.0 4.5.6 10.0.0 10.2.3 11.0.0 11.1.0 12.0.0
		v1.2.3 v0.0.3 v2.0.0 v2.0.0-rc.1 V1.2.3 vv1.2.3 1 1.2 v1 v1.2 2 2.1 0 0.0 v2.1-beta 1-alpha 1.2-alpha.1
		0.0.0-0 0.0.0-alpha 0.0.3-beta 0.1.0-alpha 0.2.3-beta.2 0.2.3-beta.4 0.2.4-rc 0.3.0-rc.1
		1.0.0-0 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0-rc1 1.0.0-rc10 1.0.0-rc2
		1.0.0-1 1.0.0-2 1.0.0-10 1.0.0-A 1.0.0-a 1.0.0-Z 1.0.0-- 1.0.0--1 1.0.0-1- 1.0.0-1a 1.0.0-a.b.c 1.0.0-a.b 1.0.0-0a 1.0.0-00a
		1.2.0-0 1.2.0-rc.1 1.2.3-0 1.2.3-alpha 1.2.3-beta 1.2.3-beta.1 1.2.3-beta.2 1.2.3-rc.1 1.2.3-SNAPSHOT 1.2.4-alpha 1.2.4-beta.1 1.3.0-beta
		2.0.0-0 2.0.0-alpha 2.0.0-beta.1 2.0.0-rc.1 2.1.0-alpha 2.2.0-rc.1 3.0.0-0 3.0.0-beta 4.5.6-x 11.0.0-beta
		1.2.3+build 1.2.3+build.7 1.2.3+0001 1.2.3-beta+exp.sha.5114f85 1.0.0+a-b 1.0.0+-- 1.2+meta 1+meta v1.2.3+x 1.0.0-x+y.z
		01.02.03 1.02.3 1.2.03 001 1.2.3-01 1.2.3-0.01 1.2.3-a.00 1.2.3-0a1 1.2.3+01
		20240131 20240131120000 2024.01.31 1.25-alpine 1.25.3-alpine 1.25.3-alpine3.18 16.4-bookworm 3.19 7 8u392-jdk 22.04 jammy-20240125
		18446744073709551615.0.0 18446744073709551616.0.0 1.18446744073709551615.0 1.18446744073709551616.0 1.0.18446744073709551616
		1.0.0-18446744073709551615 1.0.0-18446744073709551616 1.0.0-99999999999999999999999 1.0.0-9999999999999999999999
		latest stable edge main 1.2.3.4 1..2 1. .1 1.2. 1.2.3. 1.2.3- 1.2.3+ 1.2.3-+ 1.2.3-a..b 1.2.3-.a 1.2.3+a..b 1.2.3+a+b 1.2.3_a 1.2.3-a_b
		1.2-3 1-2.3 -1.2.3 +1.2.3 =1.2.3 a.b.c 1.a.3 1.2.x 1.x * x v v. v-1 1.2.3-é ١.٢.٣ 1.2.3+é sha256-abc.sig 1,2 1.2.3-beta/1 1e5 0x10 1_000
	`)
	return append(texts, "", " ", " 1.2.3", "1.2.3 ", "1.2.3\n", "\t1.2.3", "1. 2.3", "v 1.2.3", "1.2.3 -beta", "1.2.3\x00",
		"1.2.3-"+strings.Repeat("a", 250), "1.2.3-"+strings.Repeat("a", 251), strings.Repeat("9", 300), strings.Repeat("0", 40)+"1.2.3")
}

// What Helm and Flux users write, from the module's README and tests, and oddities that its grammar lets through.
func curated() []string {
	texts := strings.Split(`*
x
X
v*
*.*
*.*.*
x.x.x
1
1.2
1.2.3
v1.2.3
=1.2.3
= 1.2.3
==1.2.3
!=1.2.3
! =1.2.3
>=1.25 <2
>=1.25, <2
>=1.25,<2
>=1.25 , <2
>=1.25 ,<2
>=1.25<2
>= 1.2, < 3.0.0 || >= 4.2.3
>= 1.2 < 3.0.0 || >= 4.2.3
1.2 - 1.4.5
1.2.3 - 2.3.4
1.2.3-2.3.4
1.2.3 -2.3.4
1.2.3- 2.3.4
v1.2.3 - v2.3.4
1.2 - 2
1 - 2
1.x - 2.x
1.2.x - 2
* - 2
1 - *
1.2.3-beta - 2.0.0
1.2.3 - 2.0.0-rc.1
1.2.3-beta.1 - 1.2.3-rc.1
1.0.0 - 2.0.0, !=1.2.3
!=1.2.3, 1.0.0 - 2.0.0
!=1.2.3 1.0.0 - 2.0.0
1.0.0 - 2.0.0 !=1.2.3
1.0.0 - 2.0.0!=1.2.3
1 - 2>1.2
1 - 2v2
1 - 2,
1 - 2 - 3
1 - 2 || 3 - 4
1 - 2 ||3 - 4
1 - 2||3 - 4
1 - 2||v3 - 4
1||1 - 2
1 ||1 - 2
1 || 1 - 2
11 - 2, 1 - 2
1 - 2, 11 - 12
1 - 2, 1 - 2
1 - 2, 1 - 2.1
1  -  2
1 -	2
>=1 - 2
=1 - 2
~1 - 2
^1 - 2
<1 - 2
> 1 - 2
1 - >2
1 - =2
1.2.3.4 - 5
1 - 2.3.4.5
1.2.3-a_1 - 2
~1
~1.x
~1.2
~1.2.x
~1.2.3
~ 1.2.3
~>1.2.3
~> 1.2
~ >1.2
~0
~0.0
~0.0.0
~0.0.x
~0.x
~*
~0.0.3
~0.2.3-beta.2
~1.2.3-beta.2
~1.2.3-0
~v1.2.3
^1
^1.x
^1.2
^1.2.3
^ 1.2.3
^v1.2.3
^0
^0.x
^0.0
^0.0.x
^0.0.3
^0.0.0
^0.2
^0.2.3
^0.2.3-beta.2
^0.0.3-beta
^1.2.3-beta.2
^1.2.0-0
^*
^x
^15
>*
>=*
<*
<=*
!=*
=*
>1
>1.2
>1.2.3
>1.x
>1.2.x
>11
>11.1
>=1
>=1.2
>=1.2.x
<1
<1.2
<1.2.x
<=1
<=1.2
<=1.2.x
<=11
<=11.1
!=1
!=1.x
!=1.2
!=1.2.x
!=1.2.3
!=1.2.3-beta
!=1.2.x-beta
!=1.x-beta
=>1.2.3
=<1.2.3
= >1.2.3
> =1.2.3
>>1
<>1
<=>1
><1
!1
!!=1
~=1
^^1
~~1
~^1
^~1
>=0.0.0-0
>0.0.0-0
>=0-0
>0-0
*-0
x-0
1-0
1.x-0
1.2-0
1.2.x-0
*.1.2
x.2.3-beta
1.x.3
1.x.3-beta
1.*.x
1.2.*
>= 1.2.3-beta
> 1.2.3-beta < 1.2.3
>=1.2.3-alpha, <2
>=1.2.3-alpha || <2
>1.2.3-0 !=1.2.3-rc.1
1.2.3-beta
1.2.3+build
=1.2.3+build
!=1.2.3+build
>=1.2.3+build
^1.2.3+build
~1.2+build
1.x+build
1.2.3-beta+exp.sha
1.2.3 1.2.4
1.2.3,1.2.4
1.2.3,,1.2.4
1.2.3, ,1.2.4
,1.2.3
1.2.3,
1.2.3 ,
1 2 3
1,2,3
1 || 2 || 3
1||2||3
1|2
1 | 2
1|||2
1 || || 2
|| 1
1 ||
||
|
,
-
.
v
v-1
vv1
V1
1.2.3.4
1.2.
1..2
.1
1.
1.2.3-
1.2.3+
1.2.3-a..b
1.2.3-01
1.2.3-0.00
1.2-01
01.02.03
>=01.2
xx
x1
1x
1.2x
1.xx
1.x2
**
1.**
x|
|x
x.|
1.x.|
1.2.|
1.2.3|
1.|.3
1.2.3 - 1|2
foo
latest
1.2.3 foo
foo 1.2.3
>= foo
>=
>
~
^
!=
=
>= 1.2.3 <
1.2.3 >
>=1.2.3 and <2
>=1.2.3 && <2
>=1.2.3 & <2
(>=1.2.3)
"1.2.3"
'1.2.3'
[1.2,1.3)
latest || 1.2.3
1.2.3 || latest
>=1.2.3;<2
≥1.2.3
1.2.3–2.0.0
1.2.3 – 2.0.0
18446744073709551615
18446744073709551616
1.18446744073709551616
1.2.18446744073709551616
x.18446744073709551616
1.x.18446744073709551616
>1.0.0-18446744073709551615
>1.0.0-18446744073709551616
>=1.0.0-1 <1.0.0-a
>1.0.0-A <1.0.0-b
>0.0.0-0 <2
>=1.2.3-0 <2.0.0-0
^1.2.3-0 || ~2.0.0-0
^1.2 || ^2.1 || 4.5.6
~1.2 || >=3
!=1.2.3 !=1.2.4 ^1
>=1, !=1.2.x, <3
1.2.3 || 1.2.3-beta
1.2.3-beta || >=2
20240131
>20240101
>=2024.01`, "\n")
	return append(texts, "", " ", "   ", " 1.2.3", "1.2.3 ", " >= 1.2.3 ", "\t>=\t1.2.3\t", "\n1.2.3\n", "\r\n>=1.2.3\r\n", "\f1.2.3", "\v1.2.3", "1.2.3\v",
		"1\u00a02", ">=\u00a01.2.3", "\u20281", ">=1.2.3\n<2", ">=1.2.3,\n<2", ">=1.2.3\t<2", "1.2.3\x00", " || ", "1 ||  ", "  1  ||  2  ", "1\t-\t2", "1\n-\n2", " 1 - 2 ",
		"\t1 - 2", ",1 - 2", ", 1 - 2", "3,1 - 2", "3, 1 - 2", "3 , 1 - 2", "1 - 2,1.5", "1 - 2, 1.5", "1 - 2 ,1.5", "1.2.3  -  2.3.4  ||  4.x",
		strings.Repeat(" ", 511)+"1", strings.Repeat(" ", 512)+"1", "1"+strings.Repeat(" || 1", 31), "1"+strings.Repeat(" || 1", 32), strings.Repeat("||", 40),
		"1 - 2"+strings.Repeat(" || 1 - 2", 31), "1 - 2"+strings.Repeat(" || 1 - 2", 50), "1"+strings.Repeat(",1", 250), ">=1"+strings.Repeat(" <2", 160),
		"1.2.3-"+strings.Repeat("a", 250), "1.2.3-"+strings.Repeat("a", 251), "v1.2.3-"+strings.Repeat("a", 250), "1.2-"+strings.Repeat("a", 250), "1.2-"+strings.Repeat("a", 251),
		"1-"+strings.Repeat("a", 250), "1-"+strings.Repeat("a", 251), "x-"+strings.Repeat("a", 250), "x-"+strings.Repeat("a", 251), "x+"+strings.Repeat("a", 300), "1.2+"+strings.Repeat("a", 300),
		"1.2.3+"+strings.Repeat("a", 250), "1.2.3+"+strings.Repeat("a", 251), strings.Repeat("0", 240)+"1.2", strings.Repeat("0", 260)+"1.2", strings.Repeat("0", 260)+"1.2.3", strings.Repeat("9", 30))
}

var operators = []string{"", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"}

// Every operator with every shape of version, and pairs of them.
func systematic() []string {
	shapes := strings.Fields(`0 0.0 0.0.0 0.0.3 0.2 0.2.3 0.x 0.0.x 0.2.x 1 1.x 1.X.X 1.* 1.2 1.2.x 1.2.* 1.2.3 1.0.0 2 2.0 2.0.0 2.1.x 11 11.1 11.1.0
		0-0 0.0.0-0 0.0.3-beta 0.2.3-beta.2 1-alpha 1.2-alpha.1 1.2.x-beta 1.x-0 1.0.0-alpha 1.0.0-beta.2 1.2.3-beta 1.2.3-beta.1 1.2.3-0 2.0.0-rc.1 *-0
		v1 v1.2 v1.2.3 v1.2.3-beta v0.2.3 1.2.3+build 1.2.3-beta+x 1.2+x 1+x`)
	var texts []string
	for _, op := range operators {
		for _, shape := range shapes {
			texts = append(texts, op+shape)
		}
	}
	for i, shape := range shapes {
		other := shapes[(i*7+3)%len(shapes)]
		for _, joint := range []string{" ", ",", ", ", " , ", "||", " || ", " - "} {
			texts = append(texts, shape+joint+other, ">="+shape+joint+"<"+other, "^"+shape+joint+"!="+other)
		}
	}
	return texts
}

// Constraints that are often almost right: pieces of the grammar in any order.
func random(count int) []string {
	r := rand.New(rand.NewPCG(2024, 5))
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	numbers := strings.Fields("0 0 1 1 1 2 2 3 10 11 01 x X * 1| xx")
	pres := strings.Fields("-0 -1 -alpha -alpha.1 -beta -beta.2 -rc.1 -rc.10 -01 -- -a..b - -a_b -SNAPSHOT")
	builds := strings.Fields("+1 +a.b +-- + +a..b +001")
	joints := []string{" ", " ", ",", ", ", " ,", "  ", "||", " || ", " || ", " - ", " - ", "- ", " -", "", "|", "\t", "\n", ",,"}
	version := func() string {
		text := ""
		if r.IntN(8) == 0 {
			text = "v"
		}
		text += pick(numbers)
		for n := r.IntN(16); n > 0 && n < 15; n -= 6 {
			text += "." + pick(numbers)
		}
		if r.IntN(4) == 0 {
			text += pick(pres)
		}
		if r.IntN(10) == 0 {
			text += pick(builds)
		}
		return text
	}
	var texts []string
	for range count {
		text := ""
		for n := 1 + r.IntN(3); n > 0; n-- {
			if r.IntN(3) != 0 {
				text += pick(operators)
			}
			if r.IntN(6) == 0 {
				text += " "
			}
			text += version()
			if n > 1 {
				text += pick(joints)
			}
		}
		if r.IntN(12) == 0 { // one byte lost or doubled
			at := r.IntN(len(text))
			if r.IntN(2) == 0 {
				text = text[:at] + text[at+1:]
			} else {
				text = text[:at+1] + text[at:]
			}
		}
		texts = append(texts, text)
	}
	return texts
}
